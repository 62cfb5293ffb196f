"""CURVE keys: everything beyond this machine is encrypted, and only listed clients get in.

CURVE alone admits anyone who knows the server's public key; the ZAP allow-list is what keeps others out.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import zmq

from cell.bus.ports import BusError


class KeyPair(NamedTuple):
    """Z85-encoded CURVE keys."""

    public: bytes
    secret: bytes


def is_local(endpoint: str) -> bool:
    """Is a ZeroMQ endpoint out of reach for other machines (ipc, inproc, loopback tcp)?"""
    parts = urlsplit(endpoint)
    if parts.scheme in ("ipc", "inproc"):
        return True
    if parts.scheme != "tcp":
        return False
    host = (parts.hostname or "").strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_keys() -> KeyPair:
    """Make a key pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public, secret)


def save_keys(path: Path, keys: KeyPair) -> None:
    """Write a key pair readable by its owner alone; refuses to overwrite one."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(keys.public + b"\n" + keys.secret + b"\n")


def load_keys(path: Path) -> KeyPair:
    """Read a key pair. Raises BusError if it is missing, malformed, or readable by others."""
    try:
        mode = path.stat().st_mode & 0o077
        lines = path.read_bytes().split()
    except OSError as error:
        raise BusError(f"key file {path}: {error.strerror}. Make one with `cell keys new {path}`") from error
    if mode:
        raise BusError(f"key file {path} is readable by others: chmod 600 {path}")
    if len(lines) != 2 or any(len(line) != 40 for line in lines):
        raise BusError(f"key file {path} does not hold two 40-character keys: make a new one")
    return KeyPair(lines[0], lines[1])
