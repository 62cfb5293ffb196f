"""The supervisor's phantoms: a monitor that lost a link, or gives always the same answer, permits nothing."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from perception.contract import Observation
from robots.contract import RobotState
from robots.description import load_description
from robots.motion import Motion
from robots.rates import DEFAULT_LIMITS
from safety.methods import AnyMonitor
from safety.monitor import Decision, Monitor
from safety.second_arm import ArmGeometry
from safety.selftest import PERIOD, RADIUS, SelfTest
from safety.supervisor import SupervisorCore
from tests.safety.test_monitor import CONFIG, model, motion
from tests.safety.test_supervisor import NOBODY, PERSON, arm, seen

DESCRIPTION = load_description(model().name)
GEOMETRY = ArmGeometry(DESCRIPTION, model().tool_name)
LINKS = GEOMETRY.names


class Changed:
    """A monitor with a defect: what it sees or answers passes through `change`."""

    def __init__(self, lost: str = "", limit: float | None = None) -> None:
        self._monitor = Monitor(CONFIG, model(), DEFAULT_LIMITS)
        self._lost = lost
        self._limit = limit

    def cycle(self, now: float, observation: Observation, state: RobotState, m: Motion | None) -> Decision:
        balls = np.frombuffer(observation.balls, "<f4").reshape(-1, 4)
        if self._lost:
            # Nothing at the axis of the lost link is seen, as if the link were not there.
            phantoms = [ball for ball in balls if abs(ball[3] - RADIUS) < 1e-6]
            geometry = ArmGeometry(DESCRIPTION, model().tool_name)
            a, b, _ = geometry.capsules(np.array([state.q]))
            middle = 0.5 * (a[0] + b[0])[LINKS.index(self._lost)]
            if any(np.linalg.norm(ball[:3] - middle) < 1e-3 for ball in phantoms):
                observation = msgspec.structs.replace(observation, balls=balls[1:].tobytes(), seen=0)
        answer = self._monitor.cycle(now, observation, state, m)
        return answer if self._limit is None else answer._replace(limit=self._limit)

    def warm_up(self) -> None:
        self._monitor.warm_up()


class Refusing(Changed):
    """A monitor that says of every phantom that it cannot say anything, at a separation that would do."""

    def cycle(self, now: float, observation: Observation, state: RobotState, m: Motion | None) -> Decision:
        answer = super().cycle(now, observation, state, m)
        return answer._replace(required=-1.0) if len(observation.balls) else answer


def core(m: Motion, monitor: AnyMonitor) -> SupervisorCore:
    made = SupervisorCore(
        CONFIG, monitor, model(), "print", 1, selftest=SelfTest(ArmGeometry(DESCRIPTION, model().tool_name))
    )
    made.accept_motion(m.to_accepted())
    return made


@pytest.mark.requirement("SAF-07")
def test_a_sound_monitor_passes_and_the_live_answer_stays_what_it_was() -> None:
    m = motion(0)
    tested, plain = core(m, Changed()), SupervisorCore(CONFIG, Changed(), model(), "print", 1)
    plain.accept_motion(m.to_accepted())
    kinds: list[str] = []
    for n in range(200):
        now = 10.0 + 0.008 * n
        people = PERSON if n > 150 else NOBODY
        one, two = (c.step(now, seen(now, people), arm(m, now, 0.5)) for c in (tested, plain))
        assert msgspec.structs.replace(one.lease, tested_at=-1.0) == two.lease
        assert 0.0 <= now - one.lease.tested_at < PERIOD + 0.008 and two.lease.tested_at == -1.0
        kinds += [kind for kind, _ in one.events]
    assert kinds.count("safety.self_test_passed") == 1


@pytest.mark.requirement("SAF-20")
def test_a_test_that_is_not_run_or_failed_leaves_no_young_time_on_the_lease() -> None:
    m = motion(0)
    suppressed = core(m, Changed())
    assert suppressed.selftest is not None
    first = suppressed.step(10.0, seen(10.0, NOBODY), arm(m, 10.0, 0.0)).lease
    suppressed.selftest.due = lambda now: 0  # type: ignore[method-assign]
    later = suppressed.step(11.0, seen(11.0, NOBODY), arm(m, 11.0, 0.0)).lease
    assert first.tested_at == later.tested_at == 10.0
    failed = core(m, Changed(lost=LINKS[-1])).step(10.0, seen(10.0, NOBODY), arm(m, 10.0, 0.0)).lease
    assert failed.tested_at == -1.0


@pytest.mark.requirement("SAF-07")
@pytest.mark.parametrize("link", LINKS)
def test_a_monitor_without_a_link_never_permits_anything(link: str) -> None:
    m = motion(0)
    out = core(m, Changed(lost=link)).step(10.0, seen(10.0, NOBODY), arm(m, 10.0, 0.0))
    assert out.lease.limit == 0.0
    assert not out.lease.restartable
    assert f"phantom in {link}" in out.lease.reason
    assert [kind for kind, _ in out.events] == ["safety.self_test_failed"]


@pytest.mark.requirement("SAF-07")
def test_a_monitor_that_gets_stuck_is_found_within_a_period() -> None:
    m = motion(0)
    c = core(m, Changed())
    now = 10.0
    assert c.step(now, seen(now, NOBODY), arm(m, now, 0.5)).lease.limit == 1.0
    c.monitor = Changed(limit=1.0)
    limits = []
    for _ in range(round(PERIOD / 0.008) + 2):
        now += 0.008
        limits.append(c.step(now, seen(now, NOBODY), arm(m, now, 0.5)).lease.limit)
    assert limits[-1] == 0.0
    c.monitor = Changed()
    assert c.step(now, seen(now, NOBODY), arm(m, now, 0.5)).lease.limit == 0.0, "only a restart ends it"


@pytest.mark.requirement("SAF-07")
def test_an_answer_that_is_no_number_fails() -> None:
    test = SelfTest(ArmGeometry(DESCRIPTION, model().tool_name))
    m = motion(0)
    phantom = test.phantom(seen(10.0, NOBODY), arm(m, 10.0, 0.5))
    answer = Changed().cycle(10.0, phantom.observation, arm(m, 10.0, 0.5), m)
    assert not test.judge(phantom, answer.limit, float("nan"), 10.0)
    assert not SelfTest(GEOMETRY).judge(phantom, float("nan"), answer.separation, 10.0)


@pytest.mark.requirement("SAF-07")
def test_a_refusal_has_not_seen_the_phantom() -> None:
    m = motion(0)
    c = core(m, Refusing())
    out = c.step(10.0, seen(10.0, NOBODY), arm(m, 10.0, 0.0))
    assert out.lease.limit == 0.0 and not out.lease.restartable and out.lease.tested_at == -1.0
    test = SelfTest(GEOMETRY)
    phantom = test.phantom(seen(10.0, NOBODY), arm(m, 10.0, 0.5))
    answer = Changed().cycle(10.0, phantom.observation, arm(m, 10.0, 0.5), m)
    assert test.judge(phantom, answer.limit, answer.separation, 10.0)


@pytest.mark.requirement("SAF-07")
def test_an_arm_without_links_cannot_be_tested() -> None:
    nothing = ArmGeometry(DESCRIPTION, model().tool_name)
    nothing.names = ()
    with pytest.raises(ValueError, match="no links"):
        SelfTest(nothing)
