"""Accounts, logins, limits on guessing."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell.pendant.accounts import AccountError, Accounts
from cell.pendant.logins import ADDRESS_FAILURES, FAILURES, IDLE_LOCK, LONGEST, WINDOW, Attempts, Logins
from tests.pendant.harness import QUICK


def test_the_first_admin_is_made_once(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path, QUICK)
    password = accounts.first_admin()
    assert len(password) >= 12 and accounts.fresh
    assert accounts.first_admin() == ""
    assert accounts.verify("admin", password) is not None
    accounts.set_password("admin", "another one", own=True)
    assert accounts.verify("admin", password) is None and not accounts.fresh
    assert (tmp_path / "accounts.sqlite").stat().st_mode & 0o077 == 0


def test_passwords_are_not_in_the_file(tmp_path: Path) -> None:
    Accounts(tmp_path, QUICK).create("Ada", "operator", "correct horse")
    assert b"correct horse" not in (tmp_path / "accounts.sqlite").read_bytes()


@pytest.mark.parametrize("name", ["", " ", " Ada", "Ada ", "a" * 41, "<script>", "a\nb", "../x", "_x"])
def test_unusable_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(AccountError):
        Accounts(tmp_path, QUICK).create(name, "operator", "correct horse")


def test_one_person_has_one_account(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path, QUICK)
    accounts.create("Ada Berg", "operator", "correct horse")
    with pytest.raises(AccountError, match="already"):
        accounts.create("ada  BERG", "viewer", "correct horse")
    with pytest.raises(AccountError, match="characters"):
        accounts.create("Bo", "viewer", "short")
    assert accounts.verify("ADA berg", "correct horse") is not None
    assert accounts.verify("Ada Berg", "Correct horse") is None
    accounts.change("Ada Berg", disabled=True)
    assert accounts.verify("Ada Berg", "correct horse") is None


def test_an_admin_is_always_left(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path, QUICK)
    accounts.first_admin()
    for change in ({"disabled": True}, {"role": "viewer"}):
        with pytest.raises(AccountError, match="last admin"):
            accounts.change("admin", **change)  # type: ignore[arg-type]
    assert accounts.get("admin").role == "admin" and not accounts.get("admin").disabled


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "accounts.sqlite").write_text("no database at all, " * 100)
    with pytest.raises(AccountError, match="folder"):
        Accounts(tmp_path, QUICK)


def test_logins_lock_and_end(tmp_path: Path) -> None:
    user = Accounts(tmp_path, QUICK).create("Ada", "operator", "correct horse")
    logins = Logins()
    token, login = logins.open(user, 0.0, True)
    assert logins.find(token, IDLE_LOCK) is login and not login.locked
    assert logins.find(token + "x", 1.0) is None
    assert logins.find(token, IDLE_LOCK + 1.0) is login and login.locked
    assert logins.find(token, LONGEST + 1.0) is None and login.ended
    token, login = logins.open(user, 0.0, True)
    logins.close_person("ada")
    assert logins.find(token, 1.0) is None


def test_guessing_is_limited_by_name_and_by_address() -> None:
    attempts = Attempts()
    for k in range(FAILURES):
        assert attempts.wait("Ada", "1.2.3.4", float(k)) == 0.0
        attempts.failed("ada", "1.2.3.4", float(k))
    assert attempts.wait("ADA", "1.2.3.4", 10.0) > 0.0
    assert attempts.wait("Ada", "4.3.2.1", 10.0) == 0.0
    assert attempts.wait("Ada", "1.2.3.4", WINDOW + 5.0) == 0.0
    for k in range(ADDRESS_FAILURES):
        attempts.failed(f"name{k}", "1.2.3.4", 100.0)
    assert attempts.wait("somebody", "1.2.3.4", 101.0) > 0.0
