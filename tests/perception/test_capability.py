"""Detection capability: what counts as never missed, where targets may stand, and the twin's bench end to end."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cell.config import load_cell
from cell.nodes import camera_options
from cell.session import entry_point
from perception.background import build_background
from perception.capability import AROUND, DIAMETERS, LENGTH, Tally, capability, measure, places
from perception.coverage import Arms, grid
from perception.view import CameraView, Capsules


def tally(diameter: float, missed: int, near: float = 1.0, moving: bool = False) -> Tally:
    return Tally(diameter, near, near + 0.5, moving, 100, missed)


def test_the_capability_is_the_smallest_of_which_no_larger_one_was_missed() -> None:
    all_seen = [tally(d, 0) for d in DIAMETERS]
    assert capability(all_seen, 1.0, 1.5) == 0.014
    assert capability([tally(d, int(d == 0.030)) for d in DIAMETERS], 1.0, 1.5) == 0.040
    # One that is missed while it moves is missed, and a smaller one that was always seen does not make up for it.
    assert capability([*all_seen, tally(0.055, 1, moving=True)], 1.0, 1.5) == 0.070
    assert math.isinf(capability([tally(d, 1) for d in DIAMETERS], 1.0, 1.5))
    assert math.isnan(capability(all_seen, 2.0, 2.5))


@pytest.fixture(scope="module")
def bench() -> object:
    cell = load_cell()
    cameras = [(c.name, camera_options(c.name, cell, 1)[1]) for c in cell.config.cameras]
    made = entry_point("cell.targets", "twin")(cameras, [(d, LENGTH) for d in DIAMETERS], cell.home().tolist(), 1)
    yield made, cell
    made.close()


def test_targets_near_the_cameras_are_seen_and_what_is_not_there_is_not(bench: object) -> None:
    made, cell = bench  # type: ignore[misc]
    config = cell.config
    a, b, r = cell.model().capsules(cell.home())
    arm, arms = Capsules(a, b, np.asarray(r)), Arms(a[None], b[None], np.asarray(r))
    views = [CameraView(info, config.workcell, config.perception) for info in made.infos]
    backgrounds = [build_background(info, config.workcell, config.perception) for info in made.infos]
    volume = np.array(config.workcell.person_volume, float)
    spots = places(made.infos, backgrounds, grid(config.workcell, 0.3), volume, arms)
    assert len(spots) > 50
    for spot in spots:
        assert (spot.centre - AROUND >= volume[0]).all() and (spot.centre + AROUND <= volume[1]).all()
        assert np.linalg.norm(spot.sight) == pytest.approx(1.0)
    near = [spot for spot in spots if spot.distance < 2.0]
    found = list(measure(made, views, arm, near, 1, 3))
    assert {t.near for t in found} <= {0.5, 1.0, 1.5} and len(found) >= 2 * len(DIAMETERS)
    assert all(t.missed == 0 for t in found if t.diameter >= 0.055 and t.near >= 1.0)
    # Without a target nothing is detected, so that a picture full of noise would not pass for one.
    for _ in range(3):
        for frame in made.frames(None, (0, 0, 0, 0, 0, 0, 1)):
            view = next(v for v in views if v.info.name == frame.camera)
            assert len(view.process(frame, arm, []).points) == 0


def test_another_arm_is_refused(bench: object) -> None:
    _, cell = bench  # type: ignore[misc]
    cameras = [(c.name, camera_options(c.name, cell, 1)[1]) for c in cell.config.cameras]
    with pytest.raises(ValueError, match="joints"):
        entry_point("cell.targets", "twin")(cameras, [(0.05, LENGTH)], [0.0] * 6, 1)


def test_the_command_prints_classes_and_judges_the_claim(capsys: pytest.CaptureFixture[str]) -> None:
    from cell.cli import main

    with pytest.raises(SystemExit) as done:
        main(["perceive", "capability", "--places", "1", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert done.value.code == (0 if result["claim_holds"] else 1)
    assert result["claimed_d_mm"] == 40.0 and len(result["classes"]) >= 5
    assert all(shown == 5 for row in result["classes"] for _, shown in row["missed"].values())
    held = all(row["d_mm"] is not None and row["d_mm"] <= 40 for row in result["classes"])
    assert result["claim_holds"] == held
