"""Runs one frozen recipe: phase after phase, batch after batch, with retries, skips and questions. Pure.

The controller calls `step` at each of its own steps and says whether new work may begin (`running`: the PackML state is
Execute). What is under way on the arm goes on being watched either way; stopping and holding the arm itself is the
controller's and the robot node's business, so a Hold in mid-motion needs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cell.arm import Arm, Running, start
from cell.contract import Question, Stepping
from recipes.analysis import Analysis
from recipes.contract import (
    Action,
    AskAction,
    MoveAction,
    Outcome,
    OutcomeSpec,
    PhaseFault,
    Result,
    Run,
    SkillContext,
)
from recipes.expand import PhaseCall
from recipes.parts import PartsError
from recipes.schema import Recovery

Emit = Callable[..., Any]
"""emit(kind, now, **data): the controller's event source."""
ACTIONS_PER_STEP = 4
"""Actions that may begin in one step, so that a skill of empty actions does not hold the controller up."""


@dataclass(frozen=True)
class Frozen:
    """What Start has frozen."""

    recipe: str
    fingerprint: str
    """Of recipe, formula, cell and versions."""
    analysis: Analysis
    batches: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The formula."""


def decide(outcome: Outcome, call: PhaseCall, attempts: int) -> str:
    """Recovery policy: `retry`, `ask`, `skip` or `stop`, from the recipe's rule or else from the skill's own.

    `attempts` counts the tries so far, from 1. An outcome that the skill has not declared is never retried.
    """
    rule = call.recovery.get(outcome.code)
    if rule is None:
        spec = call.skill.outcomes.get(outcome.code)
        if spec is None:
            return "ask"
        rule = Recovery(retry=spec.retries)
    return "retry" if attempts <= rule.retry else rule.then


@dataclass
class Sequencer:
    """One run of one frozen recipe."""

    frozen: Frozen
    context: SkillContext
    emit: Emit
    batch: int = 0
    step_number: int = 0
    """Phase of the batch, from 1."""
    parts_done: int = 0
    cycle_times: list[float] = field(default_factory=list)
    question: Question | None = None
    failure: Outcome | None = None
    """The phase has failed and a person has to choose."""
    finished: bool = False
    stopped: str = ""
    """Why the recipe gave up by its own rules; the controller stops."""
    bug: str = ""
    """A skill raised what it never should."""
    stepping: Stepping = "automatic"
    """May be changed at any time; counts from the next phase on."""
    waits: bool = False
    """The next phase waits for `let_next`."""

    def __post_init__(self) -> None:
        self._queue: list[PhaseCall] = []
        self._call: PhaseCall | None = None
        self._run: Run | None = None
        self._next: Action | None = None
        self._action: Running | None = None
        self._pending: Result | None = None
        self._attempts = 0
        self._asked = 0
        self._answers: dict[str, str] = {}
        self._batch_began = 0.0
        self._in_changeover = False
        self._choice = ""
        self._let = False
        self._to_confirm = ""
        self._confirming = ""
        self._placed_before = self.context.parts.placed

    # ------------------------------------------------------------ what people see

    @property
    def call(self) -> PhaseCall | None:
        """The phase under way."""
        return self._call

    @property
    def steps(self) -> int:
        """Phases of a batch."""
        return len(self.frozen.analysis.phases)

    # ------------------------------------------------------------ what people answer

    def answer(self, question: str, answer: str) -> str:
        """Take an answer; return why it is refused, or an empty text."""
        asked = self.question
        if asked is None or asked.id != question:
            return "this question is not open any more"
        if answer not in asked.choices:
            return f"{answer!r} is not one of the choices {', '.join(asked.choices)}"
        if asked.kind == "confirm":
            self._answers[question] = answer
        else:
            self._choice = answer
        return ""

    # ------------------------------------------------------------ running

    def step(self, now: float, dt: float, arm: Arm, running: bool) -> None:
        """Go on. `running`: new actions may begin; time-outs and delays run only then."""
        if self.finished or self.stopped or self.bug:
            return
        self._see(arm)
        if self.failure is not None:
            return
        for _ in range(ACTIONS_PER_STEP):
            if not self._advance(now, dt if running else 0.0, arm, running):
                return
            dt = 0.0

    def _see(self, arm: Arm) -> None:
        state = arm.state
        if state is None:
            return
        self.context.inputs = state.inputs
        self.context.gripper_width = state.gripper_width
        if state.standing:
            self.context.q = np.array(state.q_commanded, dtype=np.float64)

    def _advance(self, now: float, dt: float, arm: Arm, running: bool) -> bool:
        """Do one thing; return whether there may be more to do at once."""
        if self._action is not None:
            asked = self.question.id if self.question is not None else ""
            result = self._action.poll(dt, arm, self._answers, asked)
            if result is None:
                return False
            self._settle(self._action, result)
            self._action, self._pending = None, result
        # A failure is looked into at once, also in a hold: the person has to know what to decide.
        if not running and (self._pending is None or self._pending.ok):
            return False
        if self._run is None:
            return running and self._begin(now)
        if self._next is None and not self._fetch(now):
            return running and self.failure is None and not self.stopped and not self.bug
        return running and self._launch(now, arm)

    def _settle(self, ended: Running, result: Result) -> None:
        """Take over what an ended action has changed."""
        if isinstance(ended.action, MoveAction) and result.ok:
            self.context.q = np.array(ended.action.motion.path[-1])
        if isinstance(ended.action, AskAction):
            self.question = None
        held = self.context.parts.held
        if result.code == "part_lost" and held is not None:
            self.context.parts.lose(held.name)
            self.emit("part.lost", ended.started + ended.spent, part=held.name)

    def _begin(self, now: float) -> bool:
        if self._to_confirm and not self._confirmed():
            return False
        if self.stopped or (not self._queue and not self._next_round(now)):
            return False
        if not self._admitted():
            return False
        call = self._call = self._queue.pop(0)
        if not self._in_changeover:
            self.step_number = self.steps - len(self._queue)
        self._attempts = 1
        self.emit("recipe.phase_started", now, key=call.key, phase=call.label, batch=self.batch, step=self.step_number)
        self._open()
        return True

    def let_next(self) -> bool:
        """Let the waiting phase begin; False if none waits."""
        if not self.waits:
            return False
        self._let, self.waits = True, False
        return True

    def _admitted(self) -> bool:
        """May the next phase begin? In stepping mode `step` each one waits for the person."""
        if self.stepping == "step" and not self._let:
            self.waits = True
            return False
        self._let = self.waits = False
        return True

    def _confirmed(self) -> bool:
        """Has the person confirmed the phase that has ended? `stop` ends the batch."""
        if not self._confirming and self.stepping == "confirm_each":
            self._ask("confirm", f"{self._to_confirm}: done?", ("continue", "stop"))
            self._confirming = self.question.id if self.question is not None else ""
        if self._confirming:
            answer = self._answers.get(self._confirming)
            if answer is None:
                return False
            if answer == "stop":
                self.stopped = f"{self._to_confirm}: stopped by the operator"
        self.question, self._confirming, self._to_confirm = None, "", ""
        return True

    def _next_round(self, now: float) -> bool:
        """Start the next batch or changeover; False at the end of the run."""
        if self.batch and not self._in_changeover:
            self._finish_batch(now)
            if self.batch >= self.frozen.batches:
                self.finished = True
                self._call = None
                return False
            if self.frozen.analysis.changeover:
                self._in_changeover = True
                self._queue = list(self.frozen.analysis.changeover)
                return True
        self._in_changeover = False
        self.batch += 1
        self.step_number = 0
        self._batch_began = now
        self._queue = list(self.frozen.analysis.phases)
        self.emit(
            "batch.started",
            now,
            batch=self.batch,
            batches=self.frozen.batches,
            recipe=self.frozen.recipe,
            fingerprint=self.frozen.fingerprint,
        )
        return True

    def _finish_batch(self, now: float) -> None:
        self.cycle_times.append(now - self._batch_began)
        self.emit(
            "batch.finished",
            now,
            batch=self.batch,
            parts_done=self.parts_done,
            cycle_s=self.cycle_times[-1],
            fingerprint=self.frozen.fingerprint,
        )

    def _open(self) -> None:
        call = self._call
        assert call is not None  # set by every caller
        self.context.prefix = call.key
        self.context.id_prefix = f"b{self.batch}.{call.key}.{self._attempts}"
        self._run = call.skill.run(self.context, call.params)
        self._next, self._pending = None, None

    def _fetch(self, now: float) -> bool:
        """Hand the last result to the skill and take what it asks for next; False if the phase has ended instead."""
        assert self._run is not None  # asked only while a phase is open
        pending, self._pending = self._pending, None
        try:
            self._next = next(self._run) if pending is None else self._run.send(pending)
        except StopIteration as ended:
            outcome = ended.value if isinstance(ended.value, Outcome) else Outcome("skill_bug", "ended without outcome")
            self._end(outcome, now)
        except (PhaseFault, PartsError) as fault:
            self._end(Outcome(fault.code, str(fault)), now)
        except Exception as error:  # a skill may be anybody's plug-in: its bug stops the cell, not the controller
            self._run = None
            self.bug = f"{type(error).__name__} in {self._call.label if self._call else '?'}: {error}"
        else:
            return True
        return False

    def _launch(self, now: float, arm: Arm) -> bool:
        action, self._next = self._next, None
        assert action is not None  # fetched just before
        if isinstance(action, MoveAction) and self._call is not None:
            phase = f"{self._call.operation}.{self._call.skill.name}"
            action = MoveAction(replace(action.motion, phase=phase))
        if isinstance(action, AskAction):
            self._ask("confirm", action.text, action.choices, action.restocked)
        self._action = start(action, now, arm)
        return True

    def _ask(self, kind: Any, text: str, choices: tuple[str, ...], restocked: bool = False) -> None:
        self._asked += 1
        self.question = Question(f"{self.frozen.fingerprint[:8]}-{self._asked}", kind, text, choices, restocked)

    # ------------------------------------------------------------ endings

    def _end(self, outcome: Outcome, now: float) -> None:
        call = self._call
        assert call is not None  # a phase ends once, while it is open
        self._run = None
        self.emit(
            "recipe.phase_finished",
            now,
            key=call.key,
            phase=call.label,
            batch=self.batch,
            outcome=outcome.code,
            text=outcome.text,
            attempt=self._attempts,
        )
        if outcome.code == "done":
            self.parts_done = self.context.parts.placed - self._placed_before
            self._to_confirm = call.label
            return
        decision = decide(outcome, call, self._attempts)
        if decision == "retry":
            self._attempts += 1
            self._open()
        elif decision == "skip":
            self._skip(call)
        elif decision == "stop":
            self.stopped = f"{call.label}: {outcome.text or outcome.code}"
        else:
            spec = call.skill.outcomes.get(outcome.code, OutcomeSpec(outcome.code))
            self.failure = outcome
            self._choice = ""
            self._ask("recovery", f"{call.label}: {outcome.text or spec.text}", self._offered(call, spec))

    def _offered(self, call: PhaseCall, spec: OutcomeSpec) -> tuple[str, ...]:
        """What the person can choose: the skill's own choices, to go back to where the round began if nothing is held,
        and to go on after putting it right by hand where that changes no part."""
        back = self._round(call)[0].key != call.key and self.context.parts.held is None
        possible = {"redo": back, "fixed": "gripper" not in call.skill.needs}
        order = ("retry", "redo", "skip", "fixed", "stop")
        return tuple(choice for choice in order if choice in spec.choices or possible.get(choice, False))

    def _round(self, call: PhaseCall) -> list[PhaseCall]:
        """All phases of the round of an operation that a phase belongs to."""
        phases = self.frozen.analysis.changeover if self._in_changeover else self.frozen.analysis.phases
        return [one for one in phases if one.group == call.group]

    def _skip(self, call: PhaseCall) -> None:
        while self._queue and self._queue[0].group == call.group:
            self._queue.pop(0)

    def recover(self, now: float) -> None:
        """Do what the person has chosen; nothing moves before the next step with `running`."""
        if not self._choice:
            return
        choice, self._choice = self._choice, ""
        call, failure = self._call, self.failure
        assert call is not None  # a failure belongs to a phase
        self.failure, self.question = None, None
        self.emit("recipe.recovery", now, key=call.key, outcome=failure.code if failure else "", choice=choice)
        if choice == "retry":
            self._attempts = 1
            self._open()
        elif choice == "skip":
            self._skip(call)
        elif choice == "redo":
            self._skip(call)
            self._queue = [*self._round(call), *self._queue]
        elif choice == "fixed":
            self._to_confirm = call.label
        else:
            self.stopped = f"{call.label}: stopped by the operator"

    @property
    def choice_made(self) -> bool:
        """A recovery has been chosen and waits for Unhold."""
        return bool(self._choice)

    def cancel(self) -> None:
        """Give the run up, whatever it is doing."""
        if self._run is not None:
            self._run.close()
        self._run, self._next, self._action, self.question = None, None, None, None
        self.stopped = self.stopped or "cancelled"

    @property
    def may_hold(self) -> bool:
        """The arm may be held now; otherwise the action under way is to end first, as its skill says."""
        return self._action is None or self._call is None or self._call.skill.hold() == "on_path"
