"""The supervisor cycle by cycle: what it refuses, and when the arm may go on by itself."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from perception.contract import CameraHealth, Observation
from robots.contract import RobotState
from robots.motion import Motion
from robots.rates import DEFAULT_LIMITS
from safety.monitor import Monitor
from safety.supervisor import Output, SupervisorCore
from tests.safety.test_monitor import CONFIG, model, motion, state_on

PERSON = np.array([[0.0, 0.0, 0.3, 0.1]])
FROZEN = CameraHealth("c", False, "frozen", 9.9, 1.0, 0)
LATE = CameraHealth("c", False, "late", 9.9, 1.0, 0)
NOBODY = np.zeros((0, 4))


def core(m: Motion) -> SupervisorCore:
    made = SupervisorCore(CONFIG, Monitor(CONFIG, model(), DEFAULT_LIMITS), model(), "print", 7)
    made.accept_motion(m.to_accepted())
    return made


def seen(now: float, balls: np.ndarray, **changes: object) -> Observation:
    data = np.ascontiguousarray(balls, "<f4").reshape(-1, 4)
    camera = CameraHealth("c", True, "", now - 0.06, 1.0, 0)
    made = Observation(1, now - 0.05, now - 0.06, data.tobytes(), len(data), True, "", [camera], [], True)
    return msgspec.structs.replace(made, **changes)


def arm(m: Motion, now: float, rate: float) -> RobotState:
    return msgspec.structs.replace(state_on(m, 0.4, rate), t=now)


def cycle(c: SupervisorCore, m: Motion, now: float, balls: np.ndarray, rate: float) -> Output:
    return c.step(now, seen(now, balls), arm(m, now, rate))


@pytest.mark.requirement("SAF-05")
def test_after_a_stop_the_arm_goes_on_only_after_a_second_of_clear_way() -> None:
    """SAF-05: at 125 Hz, one glimpse of the person starts the second anew."""
    m = motion(0)
    c = core(m)
    assert cycle(c, m, 10.0, NOBODY, 1.0).lease.limit == 1.0
    stopped = cycle(c, m, 10.008, PERSON, 0.0)
    assert stopped.lease.limit == 0.0
    assert stopped.lease.restartable
    assert [kind for kind, _ in stopped.events] == ["safety.protective_stop"]
    now = 10.016
    while now < 10.016 + 0.9:
        assert cycle(c, m, now, NOBODY, 0.0).lease.limit == 0.0
        now += 0.008
    assert cycle(c, m, now, PERSON, 0.0).lease.limit == 0.0
    began = now + 0.008
    kinds: list[str] = []
    while now < began + 2.0:
        now += 0.008
        out = cycle(c, m, now, NOBODY, 0.0)
        kinds += [kind for kind, _ in out.events]
        if out.lease.limit > 0.0:
            break
    assert now - began == pytest.approx(CONFIG.restart_after, abs=0.02)
    assert kinds == ["safety.restart_announced", "safety.restart"]


@pytest.mark.requirement("SAF-03")
@pytest.mark.parametrize(
    ("change", "restartable"),
    [
        ({"oldest_exposure": 9.8}, True),
        ({"oldest_exposure": 9.3}, False),
        ({"oldest_exposure": math.nan}, False),
        ({"oldest_exposure": 11.0}, False),
        ({"healthy": False, "reason": "camera c: frozen", "cameras": [FROZEN]}, False),
        ({"healthy": False, "reason": "camera c: late", "cameras": [LATE]}, True),
        ({"healthy": False, "reason": "more occupied space than can be handled"}, True),
    ],
)  # fmt: skip
def test_an_observation_that_cannot_be_relied_on_stops_the_arm(change: dict[str, object], restartable: bool) -> None:
    m = motion(0)
    out = core(m).step(10.0, seen(10.0, NOBODY, **change), arm(m, 10.0, 1.0))
    assert out.lease.limit == 0.0
    assert out.lease.restartable is restartable
    assert out.lease.reason


@pytest.mark.requirement("SAF-04")
def test_no_state_an_old_state_or_an_unknown_motion_stops_the_arm() -> None:
    m, other = motion(0), motion(1)
    assert core(m).step(10.0, seen(10.0, NOBODY), None).lease.limit == 0.0
    assert core(m).step(10.0, None, arm(m, 10.0, 1.0)).lease.limit == 0.0
    assert core(m).step(10.0, seen(10.0, NOBODY), arm(m, 9.9, 1.0)).lease.limit == 0.0
    assert core(m).step(10.0, seen(10.0, NOBODY), arm(m, 10.1, 1.0)).lease.limit == 0.0
    assert core(other).step(10.0, seen(10.0, NOBODY), arm(m, 10.0, 1.0)).lease.limit == (
        1.0 if other.motion_id == m.motion_id else 0.0
    )


def test_a_lease_names_motion_window_state_and_expiry() -> None:
    m = motion(0)
    lease = cycle(core(m), m, 10.0, NOBODY, 1.0).lease
    assert lease.motion_id == m.motion_id
    assert lease.progress_from <= 0.4 < lease.progress_to
    assert lease.state_seq == 1
    assert lease.expires_at == pytest.approx(lease.oldest_exposure + CONFIG.reaction.lease_validity)
    assert (lease.issuer, lease.boot, lease.fingerprint) == ("supervisor", 7, "print")
