"""docs/protocol.md says what the structs say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_protocol_page_is_current() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(root / "scripts" / "protocol.py"), "--check"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
