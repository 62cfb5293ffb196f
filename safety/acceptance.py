"""Acceptance of a safety configuration: two safety engineers sign its fingerprint (Ed25519).

The signatures lie beside the file (`demo_safety.signatures.yaml` for `demo_safety.yaml`). Whose signatures count says a
list of trusted keys, which belongs where operators cannot write; nothing in the signed files can extend it. What is
signed is the canonical hash of the configuration, so comments and layout may change, figures may not. The file of
contact limits is part of it by its own hash.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import Field

from cell.yamlfile import FileErrors, load_yaml
from robots.workcell import Strict
from safety.config import SafetyConfig, fingerprint

ROLE: Literal["safety_engineer"] = "safety_engineer"
PEOPLE = 2
"""How many different people must sign."""
TRUST_VARIABLE = "CELL_TRUSTED_KEYS"
"""Environment variable that names the list of trusted keys; otherwise it lies beside the safety file."""
TRUST_FILE = "trusted_keys.yaml"
CONTEXT = b"collabcell: acceptance of a safety configuration, version 1\0"

PersonName = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^\S.*$")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hex128 = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class AcceptanceError(Exception):
    """A signature that cannot be made; the text says why."""


class Person(Strict):
    """Somebody whose signature counts."""

    name: PersonName
    role: Literal["safety_engineer"]
    public_key: Hex64


class TrustedKeys(Strict):
    """The list of trusted keys."""

    people: Annotated[list[Person], Field(max_length=200)] = []


class Signature(Strict):
    """One person's acceptance of one configuration."""

    name: PersonName
    role: Literal["safety_engineer"]
    public_key: Hex64
    at: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")]
    """UTC, as the signing machine's clock said."""
    signature: Hex128


class Signatures(Strict):
    """The file beside a safety configuration."""

    fingerprint: Hex64
    signatures: Annotated[list[Signature], Field(max_length=20)] = []


def signatures_path(file: Path) -> Path:
    """Where the signatures of a safety configuration lie."""
    return file.with_name(f"{file.stem}.signatures.yaml")


def trust_path(file: Path) -> Path:
    """The list of trusted keys for a safety configuration."""
    named = os.environ.get(TRUST_VARIABLE, "")
    return Path(named) if named else file.parent / TRUST_FILE


def person_key(name: str) -> str:
    """Two spellings of one name are one person: case and spacing do not count."""
    return re.sub(r"\s+", " ", name.strip()).casefold()


def message(digest: str, name: str, role: str, at: str) -> bytes:
    """What is signed: fingerprint, name, role and time, so that none of them can be exchanged."""
    plain = {"at": at, "fingerprint": digest, "name": name, "role": role}
    return CONTEXT + json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


# ---------------------------------------------------------------- keys


def new_key(path: Path, passphrase: str | None = None) -> str:
    """Make a private key file (PEM, readable by its owner alone) and return the public key, hex.

    Raises AcceptanceError if the file exists or cannot be written.
    """
    private = Ed25519PrivateKey.generate()
    lock: KeySerializationEncryption = NoEncryption()
    if passphrase:
        lock = BestAvailableEncryption(passphrase.encode())
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise AcceptanceError(f"{path} exists: a key is never overwritten") from None
    except OSError as error:
        raise AcceptanceError(f"{path}: {error.strerror}") from None
    with os.fdopen(handle, "wb") as out:
        out.write(text)
    return private.public_key().public_bytes_raw().hex()


def load_key(path: Path, passphrase: str | None = None) -> Ed25519PrivateKey:
    """Read a private key. Raises AcceptanceError: missing, readable by others, no Ed25519 key, wrong passphrase."""
    try:
        mode = path.stat().st_mode
        raw = path.read_bytes()
    except OSError as error:
        raise AcceptanceError(f"{path}: {error.strerror}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise AcceptanceError(f"{path} can be read by others: chmod 600 it, and consider the key known")
    try:
        key = load_pem_private_key(raw, passphrase.encode() if passphrase else None)
    except TypeError as error:
        raise AcceptanceError(f"{path}: {error}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise AcceptanceError(f"{path} is no private key in PEM, or the passphrase is wrong") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise AcceptanceError(f"{path} is no Ed25519 key")
    return key


def load_trusted(path: Path) -> TrustedKeys:
    """Read the list of trusted keys. Raises AcceptanceError: missing, wrong, or writable by everybody."""
    try:
        if path.stat().st_mode & stat.S_IWOTH:
            raise AcceptanceError(f"{path} can be written by everybody: whose keys it lists means nothing")
    except OSError as error:
        raise AcceptanceError(f"list of trusted keys {path}: {error.strerror}") from None
    try:
        return load_yaml(path, TrustedKeys)
    except FileErrors as error:
        raise AcceptanceError(str(error)) from None


def enrol(path: Path, name: str, public_key: str) -> None:
    """Add a safety engineer to the list of trusted keys. Raises AcceptanceError for a name or key that is there."""
    known = load_trusted(path).people if path.exists() else []
    for person in known:
        if person_key(person.name) == person_key(name) or person.public_key == public_key:
            raise AcceptanceError(f"{path} lists {person.name} with key {person.public_key[:16]}... already")
    person = Person(name=name, role=ROLE, public_key=public_key)
    _write(path, TrustedKeys(people=[*known, person]).model_dump_json(indent=2))


# ---------------------------------------------------------------- signing and checking


def sign(file: Path, config: SafetyConfig, key: Ed25519PrivateKey, name: str, at: str, trusted: TrustedKeys) -> int:
    """Add a person's signature to a configuration; return how many people have signed it now.

    Signatures of an earlier state of the file are dropped. Raises AcceptanceError if the key is not trusted for this
    name, or if this person or this key has signed already: the second one must be somebody else.
    """
    public = key.public_key().public_bytes_raw().hex()
    person = next((p for p in trusted.people if p.public_key == public), None)
    if person is None:
        raise AcceptanceError(f"the key of {name} ({public[:16]}...) is not in the list of trusted keys")
    if person_key(person.name) != person_key(name):
        raise AcceptanceError(f"this key belongs to {person.name}, not to {name}")
    digest = fingerprint(config)
    kept = [s for s in _read(signatures_path(file), digest) if not _faults(s, digest, trusted)]
    for one in kept:
        if person_key(one.name) == person_key(name) or one.public_key == public:
            raise AcceptanceError(f"{one.name} has signed this state already: the second person must be another one")
    raw = key.sign(message(digest, person.name, ROLE, at)).hex()
    new = Signature(name=person.name, role=ROLE, public_key=public, at=at, signature=raw)
    _write(signatures_path(file), Signatures(fingerprint=digest, signatures=[*kept, new]).model_dump_json(indent=2))
    return len(kept) + 1


def acceptance_faults(file: Path, config: SafetyConfig, trusted: TrustedKeys) -> list[str]:
    """Return why a configuration counts as not accepted; empty if two different safety engineers have signed it."""
    path = signatures_path(file)
    if not path.is_file():
        return [f"{file} has not been signed: {PEOPLE} safety engineers sign it with `cell safety sign`"]
    try:
        stored = load_yaml(path, Signatures)
    except FileErrors as error:
        return [str(error)]
    digest = fingerprint(config)
    if stored.fingerprint != digest:
        return [f"{file} has changed since it was signed: it has to be signed anew"]
    faults = [fault for one in stored.signatures for fault in _faults(one, digest, trusted)]
    good = [one for one in stored.signatures if not _faults(one, digest, trusted)]
    people, keys = {person_key(s.name) for s in good}, {s.public_key for s in good}
    if min(len(people), len(keys)) < PEOPLE:
        faults.append(f"{file} is signed by {len(people)} of {PEOPLE} safety engineers")
        return faults
    return []


def _faults(one: Signature, digest: str, trusted: TrustedKeys) -> list[str]:
    person = next((p for p in trusted.people if p.public_key == one.public_key), None)
    if person is None or person_key(person.name) != person_key(one.name):
        return [f"the signature of {one.name} was made with a key that is not trusted for that name"]
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(one.public_key))
        key.verify(bytes.fromhex(one.signature), message(digest, one.name, one.role, one.at))
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return [f"the signature of {one.name} does not fit this state of the file"]
    return []


def _read(path: Path, digest: str) -> list[Signature]:
    """Signatures there are for this state. Raises AcceptanceError for a file that cannot be read."""
    if not path.exists():
        return []
    try:
        stored = load_yaml(path, Signatures)
    except FileErrors as error:
        raise AcceptanceError(f"{error}; remove the file and sign anew") from None
    return list(stored.signatures) if stored.fingerprint == digest else []


def _write(path: Path, text: str) -> None:
    """Replace a file in one step. JSON is YAML too."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise AcceptanceError(f"{path}: {error.strerror}") from None
