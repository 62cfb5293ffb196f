"""`cell safety keygen | sign | verify`: two safety engineers accept a safety configuration."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from getpass import getpass
from pathlib import Path

from cell.exits import BAD_INPUT, FAILED, OK
from safety import acceptance
from safety.acceptance import AcceptanceError
from safety.config import fingerprint, load_safety


def make_key(key: Path, name: str, passphrase: bool, enrol: bool, trusted: Path | None) -> int:
    """Make a key pair; with `enrol` add the public half to the list of trusted keys."""
    try:
        public = acceptance.new_key(key, _ask(twice=True) if passphrase else None)
        print(f"private key: {key} (keep it to yourself)\npublic key:  {public}")
        where = trusted if trusted is not None else acceptance.trust_path(Path("safety.yaml"))
        if enrol:
            acceptance.enrol(where, name, public)
            print(f"{name} is listed in {where}")
        else:
            print("for the list of trusted keys:")
            print(f"  - {{name: {name}, role: {acceptance.ROLE}, public_key: {public}}}")
    except (AcceptanceError, ValueError) as error:
        return _refuse(error)
    return OK


def sign_file(file: Path, key: Path, name: str, passphrase: bool, trusted: Path | None) -> int:
    """Sign the present state of a safety configuration."""
    try:
        config = load_safety(file)
        people = acceptance.load_trusted(trusted if trusted is not None else acceptance.trust_path(file))
        private = acceptance.load_key(key, _ask(twice=False) if passphrase else None)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        count = acceptance.sign(file, config, private, name, now, people)
    except (AcceptanceError, ValueError) as error:
        return _refuse(error)
    print(f"{name} has signed {file}, fingerprint {fingerprint(config)}")
    if count < acceptance.PEOPLE:
        print(f"{acceptance.PEOPLE - count} more, by somebody else, before it is accepted")
    else:
        print("accepted by two safety engineers")
    return OK


def verify_file(file: Path, trusted: Path | None) -> int:
    """Say whether a safety configuration is accepted; 0 if it is, 1 if not."""
    try:
        config = load_safety(file)
        people = acceptance.load_trusted(trusted if trusted is not None else acceptance.trust_path(file))
    except AcceptanceError as error:
        return _refuse(error)
    faults = acceptance.acceptance_faults(file, config, people)
    print(f"fingerprint {fingerprint(config)}")
    print(config.people_covered)
    for fault in faults:
        print(f"not accepted: {fault}", file=sys.stderr)
    if not faults:
        print("accepted by two safety engineers")
    return FAILED if faults else OK


def _ask(twice: bool) -> str:
    text = getpass("passphrase: ")
    if not text or (twice and text != getpass("once more: ")):
        raise AcceptanceError("the passphrase is empty, or the two differ")
    return text


def _refuse(error: Exception) -> int:
    print(f"cell safety: {error}", file=sys.stderr)
    return BAD_INPUT
