"""The referee in a process of its own gives the same account, one row later."""

from __future__ import annotations

import numpy as np
import pytest

from sim.arms import arm_spec
from sim.config import RefereeOptions
from sim.contract import RefereeReport
from sim.human import Human, people_of
from sim.judging import DirectJudge, JudgeApart, Moment
from sim.linkage import load_linkage
from sim.referee import ArmTruth, Referee
from sim.scenario import load_scenario

WALKER = {
    "scenario": "walker",
    "seed": 1,
    "people": [
        {
            "name": "ann",
            "body": "body_178",
            "start": {"position": [2.0, 0.0], "yaw_deg": 180.0},
            "behaviour": [{"do": "walk_to", "position": [0.5, 0.0], "speed": 1.2}, {"do": "stand"}],
        }
    ],
}


def people() -> list[Human]:
    return people_of(load_scenario(WALKER), 0.0, 1)


def referee() -> Referee:
    arm = arm_spec("panda")
    return Referee(load_linkage(arm), RefereeOptions(), [2.0 * v for v in arm.brake], True)


def rows() -> list[list[Moment]]:
    arm = arm_spec("panda")
    q, dq = np.array(arm.home_deg) * np.pi / 180.0, np.full(7, 0.6)
    held = ((0.05, 0.05, 0.05), np.eye(4))
    moments = [
        Moment(0.004 * n, 0.004 * n, ArmTruth(q + 0.004 * n * dq * 0.1, dq, 0.04, held if n % 50 else None))
        for n in range(500)
    ]
    return [moments[k : k + 25] for k in range(0, 500, 25)]


def test_the_same_account_one_row_later() -> None:
    here, apart = DirectJudge(referee(), people(), 0.0), JudgeApart(referee, people(), 0.0)
    direct: list[RefereeReport] = [here.settle()]
    for row in rows():
        later = apart.see(row)
        assert later == direct[-1]
        direct.append(here.see(row))
    assert apart.settle() == direct[-1] == here.settle()
    assert apart.free()
    # The walker comes near a moving arm without being noticed: there was something to judge.
    assert direct[-1].psd_violations > 0
    assert direct[-1].min_separation < 0.5
    assert direct[-1].t == pytest.approx(0.004 * 499)
    here.close()
    apart.close()
    apart.close()
