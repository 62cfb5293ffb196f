"""Two-person acceptance: who may sign, what a signature covers, and what undoes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cell.cli import BAD_INPUT, FAILED, OK
from cell.commands.acceptance import make_key, sign_file, verify_file
from cell.config import default_cell, load_cell
from cell.options import RunOptions
from cell.session import SessionError, load_session, new_session, save_session
from safety import acceptance
from safety.acceptance import (
    AcceptanceError,
    Signatures,
    TrustedKeys,
    acceptance_faults,
    enrol,
    load_key,
    load_trusted,
    new_key,
    sign,
    signatures_path,
)
from safety.config import load_safety

AT = "2026-01-31T12:00:00Z"
TEXT = "title: Line 3\nZ_d: 0.05\nZ_r: 0.03\n"


class Office:
    """A safety file, two safety engineers and a stranger."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "safety.yaml"
        self.file.write_text(TEXT, encoding="utf-8")
        self.trust = folder / "trusted_keys.yaml"
        self.keys = {}
        for name in ("Anna Berg", "Carl Dietz", "Eve"):
            path = folder / f"{name[:3]}.pem"
            public = new_key(path)
            self.keys[name] = path
            if name != "Eve":
                enrol(self.trust, name, public)

    @property
    def trusted(self) -> TrustedKeys:
        return load_trusted(self.trust)

    def sign(self, name: str, key: str | None = None) -> int:
        return sign(self.file, load_safety(self.file), load_key(self.keys[key or name]), name, AT, self.trusted)

    def faults(self) -> list[str]:
        return acceptance_faults(self.file, load_safety(self.file), self.trusted)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.mark.requirement("SEC-02")
def test_two_different_safety_engineers_accept(office: Office) -> None:
    assert "not been signed" in office.faults()[0]
    assert office.sign("Anna Berg") == 1
    assert any("1 of 2" in fault for fault in office.faults())
    assert office.sign("Carl Dietz") == 2
    assert office.faults() == []


@pytest.mark.requirement("SEC-02")
def test_the_second_person_is_another_one(office: Office) -> None:
    office.sign("Anna Berg")
    for spelling in ("Anna Berg", "anna  berg"):
        with pytest.raises(AcceptanceError, match="another"):
            office.sign(spelling, "Anna Berg")
    with pytest.raises(AcceptanceError, match="belongs to Anna Berg"):
        office.sign("Carl Dietz", "Anna Berg")
    with pytest.raises(AcceptanceError, match="already"):
        enrol(office.trust, "ANNA BERG", "0" * 64)
    doubled = Signatures.model_validate_json(signatures_path(office.file).read_text(encoding="utf-8"))
    twice = doubled.model_copy(update={"signatures": doubled.signatures * 2})
    signatures_path(office.file).write_text(twice.model_dump_json(), encoding="utf-8")
    assert any("1 of 2" in fault for fault in office.faults())


def test_a_stranger_cannot_sign(office: Office) -> None:
    with pytest.raises(AcceptanceError, match="not in the list"):
        office.sign("Eve")
    office.sign("Anna Berg")
    public = load_key(office.keys["Eve"]).public_key().public_bytes_raw().hex()
    foreign = TrustedKeys.model_validate({"people": [{"name": "Eve", "role": "safety_engineer", "public_key": public}]})
    own_list = TrustedKeys(people=[*office.trusted.people, *foreign.people])
    sign(office.file, load_safety(office.file), load_key(office.keys["Eve"]), "Eve", AT, own_list)
    assert any("not trusted" in fault for fault in office.faults())
    with pytest.raises(ValidationError):
        TrustedKeys.model_validate({"people": [{"name": "Op", "role": "operator", "public_key": "0" * 64}]})


@pytest.mark.requirement("SEC-02")
def test_any_changed_figure_undoes_it_and_a_comment_does_not(office: Office) -> None:
    office.sign("Anna Berg")
    office.sign("Carl Dietz")
    office.file.write_text("# checked on Monday\n" + TEXT, encoding="utf-8")
    assert office.faults() == []
    office.file.write_text(TEXT.replace("0.03", "0.02"), encoding="utf-8")
    assert "changed since" in office.faults()[0]
    assert office.sign("Anna Berg") == 1  # signatures of the old state do not count for the new one
    assert office.faults() != []


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["name", "at", "public_key", "signature", "fingerprint"]), st.integers(0, 127), st.integers(1, 15)
)
def test_no_byte_of_a_signature_can_be_exchanged(
    tmp_path_factory: pytest.TempPathFactory, field: str, place: int, change: int
) -> None:
    office = Office(tmp_path_factory.mktemp("office"))
    office.sign("Anna Berg")
    office.sign("Carl Dietz")
    path = signatures_path(office.file)
    stored = Signatures.model_validate_json(path.read_text(encoding="utf-8")).model_dump()
    target = stored if field == "fingerprint" else stored["signatures"][1]
    value = target[field]
    if field == "name":
        target[field] = "Anna Berg"
    elif field == "at":
        target[field] = "2026-01-31T12:00:01Z"
    else:
        at = place % len(value)
        target[field] = value[:at] + f"{int(value[at], 16) ^ change:x}" + value[at + 1 :]
    path.write_text(Signatures.model_validate(stored).model_dump_json(), encoding="utf-8")
    assert office.faults() != []


def test_keys_and_lists_are_guarded(office: Office, tmp_path: Path) -> None:
    key = office.keys["Anna Berg"]
    assert key.stat().st_mode & 0o077 == 0
    with pytest.raises(AcceptanceError, match="never overwritten"):
        new_key(key)
    key.chmod(0o644)
    with pytest.raises(AcceptanceError, match="by others"):
        load_key(key)
    locked = tmp_path / "locked.pem"
    new_key(locked, "correct horse")
    assert load_key(locked, "correct horse") is not None
    for wrong in (None, "battery"):
        with pytest.raises(AcceptanceError):
            load_key(locked, wrong)
    office.trust.chmod(0o666)
    with pytest.raises(AcceptanceError, match="everybody"):
        load_trusted(office.trust)
    with pytest.raises(AcceptanceError):
        load_trusted(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["", "{}", "signatures: []", "fingerprint: x\nsignatures: []", "\x00"])
def test_a_broken_file_of_signatures_accepts_nothing(office: Office, text: str) -> None:
    signatures_path(office.file).write_text(text, encoding="utf-8")
    assert office.faults() != []
    with pytest.raises(AcceptanceError):
        office.sign("Anna Berg")


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    file, trust = tmp_path / "s.yaml", tmp_path / "keys.yaml"
    file.write_text(TEXT, encoding="utf-8")
    monkeypatch.setenv(acceptance.TRUST_VARIABLE, str(trust))
    assert verify_file(file, None) == BAD_INPUT
    for name in ("A", "B"):
        assert make_key(tmp_path / f"{name}.pem", name, False, True, None) == OK
    assert verify_file(file, None) == FAILED
    assert sign_file(file, tmp_path / "A.pem", "A", False, None) == OK
    assert sign_file(file, tmp_path / "A.pem", "A", False, None) == BAD_INPUT
    assert verify_file(file, None) == FAILED
    assert sign_file(file, tmp_path / "B.pem", "B", False, None) == OK
    capsys.readouterr()
    assert verify_file(file, None) == OK
    out = capsys.readouterr().out
    assert "accepted" in out and "Covered: people" in out


def real_cell(folder: Path) -> Path:
    """The demo cell with a driver that would move something: what a world is to the twin is left out."""
    text = default_cell().read_text(encoding="utf-8")
    world = text[text.index("world:") : text.index("cameras:")]
    file = folder / "cell.yaml"
    file.write_text(text.replace(world, "").replace("demo_safety.yaml", "safety.yaml"), encoding="utf-8")
    demo = load_cell().safety_path
    (folder / "safety.yaml").write_bytes(demo.read_bytes())
    return file


@pytest.mark.requirement("SEC-02")
def test_a_real_arm_is_not_moved_by_an_unsigned_or_altered_file(office: Office, tmp_path: Path) -> None:
    cell = real_cell(tmp_path)
    options = RunOptions(recipe=None, cell=cell, mode="live")
    with pytest.raises(SessionError, match="not been signed"):
        new_session(options, tmp_path / "run")
    office.sign("Anna Berg")
    with pytest.raises(SessionError, match="1 of 2"):
        new_session(options, tmp_path / "run")
    office.sign("Carl Dietz")
    session = new_session(options, tmp_path / "run")
    assert not session.simulation_only
    saved = save_session(session)
    assert load_session(saved).safety == session.safety
    os.remove(signatures_path(office.file))
    with pytest.raises(SessionError, match="not been signed"):
        load_session(saved)


def test_the_twin_runs_an_unsigned_file_marked_as_simulation() -> None:
    assert new_session(RunOptions(recipe=None, mode="lockstep"), Path("unused")).simulation_only
