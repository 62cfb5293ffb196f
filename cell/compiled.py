"""numba's `njit`, with its cache keyed by the text of every room that has compiled code.

numba notices a change of the file a function stands in, not of the functions it calls in other files: an edit of
braking alone would leave the old braking inside the monitor. Here any edit makes a new, empty cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numba
from numba import njit

ROOMS = ("robots", "perception", "safety", "sim")
"""Folders beside this package whose text counts."""
KEPT = 14 * 24 * 3600.0
"""Caches of other versions that nobody used for so long are removed, s."""


def fingerprint(root: Path) -> str:
    """SHA-256 (hex) over names and contents of the Python files of the rooms under `root`."""
    digest = hashlib.sha256(numba.__version__.encode())
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def cache_folder(root: Path) -> Path:
    """Folder of the compiled code for the present text; made if missing, and marked as used now."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for parent in (Path(base) / "collabcell", Path(tempfile.gettempdir()) / f"collabcell-{os.getuid()}"):
        folder = parent / f"compiled-{fingerprint(root)[:16]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
        except OSError:
            continue
        _forget(parent, folder)
        return folder
    raise OSError(f"no folder for compiled code: neither {base} nor {tempfile.gettempdir()} can be written")


def _forget(parent: Path, present: Path) -> None:
    """Remove caches of other versions that have long not been used."""
    for folder in parent.glob("compiled-*"):
        try:
            if folder != present and time.time() - folder.stat().st_mtime > KEPT:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue


_config: Any = numba.config
_config.CACHE_DIR = str(cache_folder(Path(__file__).parents[1]))

__all__ = ["cache_folder", "fingerprint", "njit"]
