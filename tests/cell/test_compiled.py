"""Compiled code never outlives the text it was made from."""

from __future__ import annotations

import os
from pathlib import Path

import numba
import pytest

from cell.compiled import cache_folder, fingerprint
from safety import search


def tree(root: Path) -> Path:
    (root / "robots").mkdir(parents=True)
    (root / "safety").mkdir()
    (root / "robots" / "rates.py").write_text("SLOPE = 1\n", encoding="utf-8")
    (root / "safety" / "search.py").write_text("from robots.rates import SLOPE\n", encoding="utf-8")
    return root


def test_an_edit_of_any_room_makes_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tree(tmp_path / "tree")
    before = cache_folder(root)
    assert cache_folder(root) == before
    (root / "robots" / "rates.py").write_text("SLOPE = 2\n", encoding="utf-8")
    assert cache_folder(root) != before
    (root / "robots" / "rates.py").rename(root / "robots" / "rate.py")
    assert len({fingerprint(root), before.name}) == 2


def test_only_long_unused_caches_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old, young = (tmp_path / "collabcell" / f"compiled-{name}" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (1.0, 1.0))
    present = cache_folder(tree(tmp_path / "tree"))
    assert not old.exists()
    assert young.exists()
    assert present.exists()


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert cache_folder(tree(tmp_path / "tree")).is_dir()


def test_the_monitor_is_compiled_into_it() -> None:
    assert search.decide is not None
    assert "compiled-" in str(vars(numba.config)["CACHE_DIR"])
