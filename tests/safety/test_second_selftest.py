"""The second channel's phantoms: a channel that lost a link, or gives always the same answer, permits nothing."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from perception.contract import Observation
from robots.contract import RobotState, SpeedLease
from robots.description import load_description
from robots.rates import DEFAULT_LIMITS
from safety.second import SecondMonitor, Verdict, refused
from safety.second_arm import ArmGeometry, Course
from safety.second_core import SecondCore
from safety.selftest import PERIOD, ModelLimbs, SelfTest
from tests.safety.test_monitor import model, motion, observation, state_on
from tests.safety.test_second import CONFIG, second

LIMBS = ModelLimbs(model())
NOBODY = np.zeros((0, 4))
FRAME = 1 / 30


class Blind(SecondMonitor):
    """A channel whose arm lacks one link."""

    def __init__(self, lost: str) -> None:
        super().__init__(CONFIG, model(), DEFAULT_LIMITS)
        self._gone = LIMBS.names.index(lost)

    def _links(self, q, held):  # type: ignore[no-untyped-def]
        a, b, radii = super()._links(q, held)
        other = self._gone - 1 if self._gone else 1
        a[self._gone], b[self._gone] = a[other], b[other]
        return a, b, radii


class Stuck(SecondMonitor):
    """A channel that always gives one answer."""

    def __init__(self, answer: Verdict) -> None:
        super().__init__(CONFIG, model(), DEFAULT_LIMITS)
        self.answer = answer

    def judge(  # type: ignore[no-untyped-def]
        self, now, observation, state, course, measured=True, held=1.0
    ) -> Verdict:
        return self.answer


class Bench:
    def __init__(self, monitor: SecondMonitor | None = None, moves: bool = True) -> None:
        monitor = monitor if monitor is not None else second()
        self.core = SecondCore(CONFIG, monitor, "print", 1, SelfTest(LIMBS))
        self.motion, self.moves, self.now, self.seq = motion(1), moves, 10.0, 0
        self.core.accept_motion(self.motion.to_accepted())

    def step(self, balls: np.ndarray = NOBODY, dt: float = FRAME) -> SpeedLease:
        self.now += dt
        self.seq += 1
        o = msgspec.structs.replace(observation(balls), t=self.now - 0.06, oldest_exposure=self.now - 0.08)
        state = msgspec.structs.replace(
            state_on(self.motion, 0.3 * self.motion.duration, 0.0), t=self.now, seq=self.seq
        )
        if not self.moves:
            state = msgspec.structs.replace(state, motion_id="", progress=0.0)
        lease = self.core.step(self.now, o, state)
        assert lease is not None
        return lease


def test_the_phantoms_stand_where_the_first_channel_has_the_links() -> None:
    own = ArmGeometry(load_description(model().name), model().tool_name)
    q = np.array([model().home])
    assert LIMBS.names == own.names
    for mine, other in zip(LIMBS.capsules(q), own.capsules(q), strict=True):
        assert mine == pytest.approx(other, abs=1e-9)


@pytest.mark.requirement("SEC-05")
def test_a_sound_channel_passes_and_its_live_answer_stays_what_it_was() -> None:
    tested, plain = Bench(), Bench()
    plain.core.selftest = None
    for n in range(60):
        balls = np.array([[0.6, 0.0, 0.5, 0.1]]) if n > 40 else NOBODY
        one, two = tested.step(balls), plain.step(balls)
        assert msgspec.structs.replace(one, tested_at=-1.0) == two
        assert 0.0 <= tested.now - one.tested_at < PERIOD + 2 * FRAME and two.tested_at == -1.0
    assert two.limit == 0.0 < tested.core.selftest.passed_at  # type: ignore[union-attr]


@pytest.mark.requirement("SEC-05")
@pytest.mark.parametrize("link", LIMBS.names)
def test_a_channel_without_a_link_never_permits_anything(link: str) -> None:
    lease = Bench(Blind(link)).step()
    assert (lease.limit, lease.restartable, lease.tested_at) == (0.0, False, -1.0)
    assert f"phantom in {link}" in lease.reason


@pytest.mark.requirement("SEC-05")
def test_a_channel_that_gets_stuck_is_found_within_a_period_and_stays_stopped() -> None:
    bench = Bench()
    assert bench.step().limit == 1.0
    bench.core.monitor = Stuck(Verdict(1.0, 9.0, "", True, True, 2.0))
    leases = [bench.step() for _ in range(round(PERIOD / FRAME) + 2)]
    assert leases[-1].limit == 0.0 and not leases[-1].restartable and leases[-1].tested_at == -1.0
    bench.core.monitor = second()
    assert bench.step().limit == 0.0, "only a restart ends it"


@pytest.mark.requirement("SEC-05")
@pytest.mark.parametrize(
    "answer",
    [Verdict(0.0, 9.0, "", True, True, math.inf), Verdict(math.nan, 9.0, "", True, True, -1.0),
     Verdict(0.3, 9.0, "", True, True, -1.0)],
)  # fmt: skip
def test_answers_that_have_not_seen_the_phantom_fail(answer: Verdict) -> None:
    assert Bench(Stuck(answer)).step().tested_at == -1.0


@pytest.mark.requirement("SEC-05")
def test_a_refusal_tests_nothing_and_shows_no_young_test() -> None:
    bench = Bench(Stuck(refused("nothing can be said")))
    assert bench.step().tested_at == -1.0
    bench = Bench()
    young = bench.step().tested_at
    bench.core.monitor = Stuck(refused("nothing can be said"))
    assert [bench.step().tested_at for _ in range(30)] == [young] * 30


@pytest.mark.requirement("SEC-05")
def test_it_is_tested_without_a_motion_too_so_that_a_person_can_clear() -> None:
    bench = Bench(moves=False)
    for _ in range(30):
        lease = bench.step()
        assert lease.limit == 0.0 and 0.0 <= bench.now - lease.tested_at < PERIOD + 2 * FRAME
    blind = Bench(Blind(LIMBS.names[-1]), moves=False).step()
    assert not blind.restartable and "phantom" in blind.reason


class Deaf(SecondMonitor):
    """A channel that drops the first point of every list."""

    def judge(  # type: ignore[no-untyped-def]
        self, now: float, observation: Observation, state: RobotState, course: Course | None, measured=True, held=1.0
    ) -> Verdict:
        short = msgspec.structs.replace(observation, balls=observation.balls[16:])
        return super().judge(now, short, state, course, measured, held)


@pytest.mark.requirement("SEC-05")
def test_a_channel_that_loses_a_point_is_found() -> None:
    assert "phantom" in Bench(Deaf(CONFIG, model(), DEFAULT_LIMITS)).step().reason
