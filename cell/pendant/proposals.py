"""Proposals to change the safety configuration: signed by who proposes, and by a second person who accepts.

A proposal changes nothing. Accepting one writes the file and the signatures of both people; it takes effect when the
cell is started again. Each engineer's key lies in the data folder, encrypted with that person's password.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from cell.config import default_cell
from cell.pendant.accounts import account_key
from cell.pendant.errors import missing, refused
from cell.yamlfile import FileErrors
from safety.acceptance import (
    ROLE,
    AcceptanceError,
    Person,
    Signature,
    Signatures,
    acceptance_faults,
    enrol,
    load_key,
    load_trusted,
    message,
    new_key,
    person_key,
    signatures_path,
    trust_path,
)
from safety.config import SafetyConfig, fingerprint, load_safety

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

MOST_PROPOSALS = 200


class SafetyFiles:
    """The safety configuration's file, its signatures and the proposals to change it. All methods block."""

    def __init__(self, pendant: Pendant, file: Path) -> None:
        self.file = file
        self._volume = pendant.cell.config.workcell.person_volume
        self._keys = pendant.data / "keys"
        self._path = pendant.data / "proposals.json"
        self._packaged = file.resolve().is_relative_to(default_cell().parent.resolve())

    # ------------------------------------------------------------ configuration

    def present(self) -> SafetyConfig:
        """The configuration as it lies in the file now. Raises ApiError 409 if it cannot be read."""
        try:
            return load_safety(self.file, self._volume)
        except FileErrors as caught:
            raise refused(f"the safety file has faults: {caught.errors[0]}") from None

    def checked(self, config: dict[str, Any]) -> SafetyConfig:
        """A configuration that passes every check of the cell's start. Raises FileErrors."""
        with tempfile.TemporaryDirectory(prefix="cell-safety-") as folder:
            draft = Path(folder) / self.file.name
            draft.write_text(json.dumps(config, allow_nan=False, ensure_ascii=False), encoding="utf-8")
            contact = config.get("contact")
            names = [config.get("stopping_table"), contact.get("limits") if isinstance(contact, dict) else None]
            for name in names:
                self._lend(name, Path(folder))
            return load_safety(draft, self._volume)

    def _lend(self, name: Any, folder: Path) -> None:
        """Files a configuration names lie beside it; nothing from elsewhere is read."""
        if isinstance(name, str) and name and Path(name).name == name and (self.file.parent / name).is_file():
            (folder / name).write_bytes((self.file.parent / name).read_bytes())

    def check(self, config: dict[str, Any]) -> dict[str, Any]:
        """All faults of a configuration."""
        try:
            found = self.checked(config)
        except FileErrors as caught:
            return {"ok": False, "problems": faults_of(caught), "warnings": [], "fingerprint": ""}
        return {"ok": True, "problems": [], "warnings": warnings_of(found), "fingerprint": fingerprint(found)}

    def diff(self, config: dict[str, Any]) -> list[dict[str, Any]]:
        """What a configuration changes. Raises FileErrors."""
        before, after = (one.model_dump(mode="json") for one in (self.present(), self.checked(config)))
        return differences(before, after)

    def signatures(self) -> list[dict[str, Any]]:
        """Who has signed the file, and whether that still holds."""
        path = signatures_path(self.file)
        if not path.is_file():
            return []
        try:
            stored = Signatures.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError:
            return []
        digest = fingerprint(self.present())
        holds = stored.fingerprint == digest and not self._acceptance_faults()
        return [
            {"name": one.name, "at": one.at, "fingerprint": stored.fingerprint, "valid": holds}
            for one in stored.signatures
        ]

    def _acceptance_faults(self) -> list[str]:
        try:
            return acceptance_faults(self.file, self.present(), load_trusted(trust_path(self.file)))
        except AcceptanceError as error:
            return [str(error)]

    # ------------------------------------------------------------ proposals

    def proposals(self) -> list[dict[str, Any]]:
        """All proposals, newest first. Raises ApiError if the file is damaged."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise refused(f"{self._path} cannot be read: {error}", "Move it away for examination") from None
        return found if isinstance(found, list) else []

    def propose(self, config: dict[str, Any], comment: str, name: str, password: str) -> dict[str, Any]:
        """Keep a signed proposal. Raises ApiError, FileErrors."""
        if self._packaged:
            raise refused(
                "this cell's safety file belongs to the installed package", "Copy cell and safety file, use --cell"
            )
        present, new = self.present(), self.checked(config)
        if fingerprint(new) == fingerprint(present):
            raise refused("the proposal changes nothing")
        proposal = {
            "id": secrets.token_hex(6),
            "by": name,
            "at_wall": int(time.time() * 1000),
            "comment": comment,
            "diff": differences(present.model_dump(mode="json"), new.model_dump(mode="json")),
            "fingerprint": fingerprint(new),
            "base": fingerprint(present),
            "state": "open",
            "accepted_by": None,
            "config": config,
            "signature": self._sign(fingerprint(new), name, password).model_dump(),
        }
        self._write([proposal, *self.proposals()][:MOST_PROPOSALS])
        return proposal

    def close(self, proposal_id: str, state: str, name: str) -> dict[str, Any]:
        """Withdraw (only who has proposed) or refuse (anybody else). Raises ApiError."""
        rows = self.proposals()
        proposal = self._open(rows, proposal_id)
        own = person_key(proposal["by"]) == person_key(name)
        if own != (state == "withdrawn"):
            text = "the own proposal is withdrawn, not refused" if own else "only who has proposed it can withdraw it"
            raise refused(text)
        proposal["state"] = state
        proposal["accepted_by"] = None if own else name
        self._write(rows)
        return proposal

    def accept(self, proposal_id: str, name: str, password: str) -> dict[str, Any]:
        """Sign as the second person and write the file. Raises ApiError; then file and signatures are as before."""
        rows = self.proposals()
        proposal = self._open(rows, proposal_id)
        if person_key(proposal["by"]) == person_key(name):
            raise refused("a second person must accept it: you have proposed it")
        if fingerprint(self.present()) != proposal["base"]:
            raise refused("the configuration was changed since this was proposed", "Propose it anew")
        try:
            new = self.checked(proposal["config"])
        except FileErrors as caught:
            raise refused(f"the proposal has faults: {caught.errors[0]}") from None
        if fingerprint(new) != proposal["fingerprint"]:
            raise refused("the proposal is not what was signed", "Propose it anew")
        signatures = [Signature.model_validate(proposal["signature"])]
        signatures.append(self._sign(proposal["fingerprint"], name, password))
        self._install(proposal["config"], Signatures(fingerprint=proposal["fingerprint"], signatures=signatures))
        proposal["state"], proposal["accepted_by"] = "accepted", name
        for other in rows:
            if other["state"] == "open":
                # It was made from a file that is no more.
                other["state"] = "refused"
        self._write(rows)
        return proposal

    def _open(self, rows: list[dict[str, Any]], proposal_id: str) -> dict[str, Any]:
        proposal = next((one for one in rows if one["id"] == proposal_id), None)
        if proposal is None:
            raise missing(f"proposal {proposal_id[:40]}")
        if proposal["state"] != "open":
            raise refused(f"the proposal is {proposal['state']} already")
        return proposal

    def _install(self, config: dict[str, Any], signatures: Signatures) -> None:
        """Write file and signatures; if they do not hold then, put back what was there."""
        beside = signatures_path(self.file)
        before = self.file.read_bytes()
        signed_before = beside.read_bytes() if beside.exists() else None
        try:
            _replace(self.file, _yaml(config))
            _replace(beside, signatures.model_dump_json(indent=2) + "\n")
            faults = self._acceptance_faults()
        except OSError as error:
            faults = [f"{self.file}: {error.strerror}"]
        if faults:
            _replace(self.file, before.decode())
            if signed_before is None:
                beside.unlink(missing_ok=True)
            else:
                _replace(beside, signed_before.decode())
            raise refused(faults[0], "Nothing has changed")

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _replace(self._path, json.dumps(rows, indent=1, allow_nan=False))

    # ------------------------------------------------------------ keys

    def _key_path(self, name: str) -> Path:
        return self._keys / f"{account_key(name).encode().hex()}.pem"

    def _sign(self, digest: str, name: str, password: str) -> Signature:
        """Sign with the person's key, made at the first signature. Raises ApiError."""
        path, trust = self._key_path(name), trust_path(self.file)
        try:
            if not path.exists():
                self._keys.mkdir(parents=True, exist_ok=True, mode=0o700)
                enrol(trust, name, new_key(path, password))
            key = load_key(path, password)
            public = key.public_key().public_bytes_raw().hex()
            people = load_trusted(trust).people
        except AcceptanceError as error:
            raise refused(str(error), "Have the key looked at: `cell safety keygen --help`") from None
        known: Person | None = next((one for one in people if one.public_key == public), None)
        if known is None or person_key(known.name) != person_key(name):
            raise refused(f"the key of {name} is not in the list of trusted keys {trust}")
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        raw = key.sign(message(digest, known.name, ROLE, at)).hex()
        return Signature(name=known.name, role=ROLE, public_key=public, at=at, signature=raw)

    def rekey(self, name: str, old: str, new: str) -> None:
        """A person has another password: the key is encrypted with that from now on."""
        path = self._key_path(name)
        if not path.exists():
            return
        from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

        key = load_key(path, old)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(new.encode()))
        draft = path.with_suffix(".part")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(text)
        draft.replace(path)


# ---------------------------------------------------------------- pure pieces


def faults_of(caught: FileErrors) -> list[dict[str, Any]]:
    """Faults of a configuration as the API says them; lines mean nothing there."""
    return [
        {"field": one.field, "message": one.message, "allowed": one.allowed, "remedy": one.remedy}
        for one in caught.errors
    ]


def warnings_of(config: SafetyConfig) -> list[dict[str, Any]]:
    """What is permitted and deserves a second look."""
    found = []
    if config.zones.volumes and config.zones.elsewhere is not None:
        text = f"places outside all zones are under {config.zones.elsewhere}: gaps between zones are not told"
        found.append({"field": "zones.elsewhere", "message": text})
    if config.zones.touching:
        found.append({"field": "zones", "message": "a zone permits contact: its assessment must be valid"})
    return found


def differences(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """Leaves that differ between two plain values, with their dotted paths."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = list(dict.fromkeys([*before, *after]))
        found = []
        for name in names:
            where = f"{path}.{name}" if path else str(name)
            found += differences(before.get(name), after.get(name), where)
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            d for i, (a, b) in enumerate(zip(before, after, strict=True)) for d in differences(a, b, f"{path}[{i}]")
        ]
    return [] if before == after else [{"path": path, "before": before, "after": after}]


def _yaml(config: dict[str, Any]) -> str:
    import io

    out = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 120
    yaml.dump(config, out)
    return f"# Written when a proposal was accepted; the signatures lie beside it.\n{out.getvalue()}"


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
