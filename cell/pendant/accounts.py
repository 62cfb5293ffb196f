"""People and their passwords: SQLite, argon2id. Safe for several threads and processes: each call opens the file."""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

Role = Literal["viewer", "operator", "programmer", "safety_engineer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
Language = Literal["en", "de", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
FIRST_ADMIN = "admin"
LEAST_PASSWORD, LONGEST_PASSWORD = 8, 200
NAME = re.compile(r"[^\W_][\w .'-]{0,39}")
"""Begins with a letter or digit; up to 40 characters."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, language TEXT NOT NULL, hash TEXT NOT NULL,
    disabled INTEGER NOT NULL, own_password INTEGER NOT NULL, created REAL NOT NULL);
"""


class AccountError(Exception):
    """An account that cannot be made or changed as asked; `field` names what is wrong."""

    def __init__(self, field: str, text: str, allowed: str = "") -> None:
        super().__init__(text)
        self.field = field
        self.allowed = allowed


@dataclass(frozen=True)
class User:
    """One person."""

    name: str
    role: Role
    language: Language
    disabled: bool
    own_password: bool
    """Has chosen the password in person."""
    created: float
    """Unix time, s."""


def account_key(name: str) -> str:
    """Spellings of one name are one person: case and spacing do not count."""
    return re.sub(r"\s+", " ", name.strip()).casefold()


def check_length(password: str) -> None:
    """Raises AccountError for a password that is too short or too long."""
    if not LEAST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        text = f"a password has {LEAST_PASSWORD} to {LONGEST_PASSWORD} characters"
        raise AccountError("password", text, f"{LEAST_PASSWORD} to {LONGEST_PASSWORD} characters")


class Accounts:
    """The file of accounts. Every method blocks for milliseconds, `verify` and what sets passwords for up to 0.1 s."""

    def __init__(self, folder: Path, hasher: PasswordHasher | None = None) -> None:
        """Open or make `accounts.sqlite` in `folder`. Raises AccountError."""
        self._path = folder / "accounts.sqlite"
        self._hasher = hasher or PasswordHasher()
        # A name nobody has takes as long to refuse as a wrong password.
        self._nobody = self._hasher.hash(secrets.token_hex(16))
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            os.close(handle)
            with self._open() as db:
                db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise AccountError("", f"{self._path}: {error}: give the pendant a folder it can write to") from None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=2.0)) as db, db:
            yield db

    def first_admin(self) -> str:
        """Make the first account if there is none; return its password, or an empty text."""
        password = secrets.token_urlsafe(9)
        digest = self._hasher.hash(password)
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("SELECT COUNT(*) FROM users").fetchone()[0]:
                return ""
            row = (FIRST_ADMIN, FIRST_ADMIN, "admin", "en", digest, 0, 0, time.time())
            db.execute("INSERT INTO users VALUES (?,?,?,?,?,?,?,?)", row)
        return password

    def create(self, name: str, role: Role, password: str, language: Language = "en") -> User:
        """Add a person. Raises AccountError: name taken or unusable, password too short."""
        if not NAME.fullmatch(name) or name != name.strip():
            raise AccountError("name", "a name has 1 to 40 letters, digits, spaces, . ' _ or -", "1 to 40 characters")
        if role not in ROLES:
            raise AccountError("role", f"there is no role {role}", ", ".join(ROLES))
        check_length(password)
        row = (account_key(name), name, role, language, self._hasher.hash(password), 0, 0, time.time())
        try:
            with self._open() as db:
                db.execute("INSERT INTO users VALUES (?,?,?,?,?,?,?,?)", row)
        except sqlite3.IntegrityError:
            raise AccountError("name", f"{name} has an account already") from None
        return self.get(name)

    def get(self, name: str) -> User:
        """Return a person. Raises AccountError."""
        found = self.find(name)
        if found is None:
            raise AccountError("name", f"{name} has no account")
        return found

    def find(self, name: str) -> User | None:
        """Return a person, or None."""
        with self._open() as db:
            query = "SELECT name, role, language, disabled, own_password, created FROM users WHERE key = ?"
            row = db.execute(query, (account_key(name),)).fetchone()
        return None if row is None else User(row[0], row[1], row[2], bool(row[3]), bool(row[4]), row[5])

    def all(self) -> list[User]:
        """Return everybody, by name."""
        with self._open() as db:
            keys = [row[0] for row in db.execute("SELECT key FROM users ORDER BY key")]
        return [user for user in map(self.find, keys) if user is not None]

    def verify(self, name: str, password: str) -> User | None:
        """Return the person whose password this is, or None. A disabled account has none."""
        with self._open() as db:
            row = db.execute("SELECT hash FROM users WHERE key = ?", (account_key(name),)).fetchone()
        digest = row[0] if row is not None else self._nobody
        try:
            self._hasher.verify(digest, password[: LONGEST_PASSWORD + 1])
        except (VerificationError, InvalidHashError):
            return None
        user = self.find(name)
        return None if user is None or user.disabled else user

    def set_password(self, name: str, password: str, own: bool) -> None:
        """Give a person a new password; `own`: chosen in person. Raises AccountError."""
        check_length(password)
        self.get(name)
        with self._open() as db:
            change = "UPDATE users SET hash = ?, own_password = ? WHERE key = ?"
            db.execute(change, (self._hasher.hash(password), int(own), account_key(name)))

    def set_language(self, name: str, language: Language) -> None:
        """Remember a person's language."""
        with self._open() as db:
            db.execute("UPDATE users SET language = ? WHERE key = ?", (language, account_key(name)))

    def change(self, name: str, role: Role | None = None, disabled: bool | None = None) -> User:
        """Change role or disable. Raises AccountError; somebody who can manage accounts is always left."""
        if role is not None and role not in ROLES:
            raise AccountError("role", f"there is no role {role}", ", ".join(ROLES))
        user = self.get(name)
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            new = (role or user.role, int(user.disabled if disabled is None else disabled), account_key(name))
            db.execute("UPDATE users SET role = ?, disabled = ? WHERE key = ?", new)
            admins = db.execute("SELECT COUNT(*) FROM users WHERE role = 'admin' AND NOT disabled").fetchone()[0]
            if not admins and user.role == "admin":
                raise AccountError("role", f"{user.name} is the last admin: make another one first")
        return self.get(name)

    @property
    def fresh(self) -> bool:
        """Only the first admin is there, with the password that was printed."""
        people = self.all()
        return len(people) == 1 and not people[0].own_password
