"""The twin's node: physics, people, drives and truth behind the bus. Entry point `cell.worlds`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cell.bus.messages import Reply
from cell.bus.ports import Incoming, Ports
from robots.contract import DriverState, Setpoint
from robots.workcell import Workcell
from sim.arms import arm_spec
from sim.config import Scenario, WorldOptions
from sim.contract import (
    SERVICE,
    TOPIC_DRIVE_COMMAND,
    TOPIC_DRIVE_STATE,
    TOPIC_REFEREE,
    TOPIC_SCENE,
    BodyPose,
    DriveCommand,
    DriveState,
    PartPose,
    RefereeReport,
    Scene,
    TwinFault,
    TwinInput,
    TwinRestock,
    TwinStart,
    TwinTruth,
)
from sim.drives import DriveInputs, DriveLimits, DriveTarget, SimulatedDrives
from sim.human import people_of
from sim.judging import DirectJudge, Judge, JudgeApart, Moment
from sim.linkage import load_linkage
from sim.referee import NEVER, ArmTruth, PersonTrack, Referee
from sim.robot import INPUTS, mode_switch
from sim.scenario import load_scenario
from sim.watch import Watch
from sim.world import ArmReading, World

FAULTS = (
    "joint_stuck",
    "drives_silent",
    "state_frozen",
    "state_nan",
    "tool_changed",
    "payload",
    "lose_part",
    "ignore_stop",
    "ignore_vendor_stop",
)
JUDGED_TOGETHER = 5
"""So many steps are put before a referee in this process at once, which costs far less than one by one; one in a
process of its own gets all steps of a look."""
LOOK_EVERY = 0.1
"""Time between two looks at parts and contacts, s."""


class TwinNode:
    """Shell round `World`, `SimulatedDrives` and the people. `step(now)` runs physics exactly up to `now`."""

    def __init__(
        self,
        ports: Ports,
        workcell: Workcell,
        robot: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        scenario: str | Path | Mapping[str, Any] | Scenario | None = None,
        seed: int | None = None,
        now: float = 0.0,
        period: float = 0.004,
    ) -> None:
        """`robot`: the cell file's robot block (`model`, `home_deg`); `options`: `world.options`; `seed` replaces the
        scenario's; `now`: time of the first step. Raises pydantic's ValidationError, ScenarioError, ValueError."""
        self.name = ports.node
        self.period = period
        self.options = WorldOptions.model_validate(dict(options or {}))
        self.scenario = load_scenario(scenario)
        self.seed = self.scenario.seed if seed is None else seed
        arm = arm_spec(str(robot["model"]))
        home = [math.radians(v) for v in robot.get("home_deg") or arm.home_deg]
        self.world = World(workcell, arm, home, self.options.physics_hz)
        self.world.set_finger_speed(self.options.finger_speed)
        limits = DriveLimits(
            self.world.q_lower,
            self.world.q_upper,
            np.array(arm.v_max),
            np.array(arm.brake),
            self.options.watchdog,
        )
        self.drives = SimulatedDrives(limits, np.array(home))
        self._reading: ArmReading = self.world.reading()
        self._t = now
        self._steps = 0
        self._seq = 0
        self._inputs = dict.fromkeys(INPUTS, False)
        self._tool: str | None = robot.get("tool")
        self._faults: dict[str, float] = {}
        self._command: DriveCommand | None = None
        self._boot: int | None = None
        self._gripper_seq = 0
        self._scene_due = now
        self._watch = Watch()
        self._look_due = now
        self._fault = ""
        self._parts: list[PartPose] = []
        self._kinds = [part.kind for part in self.world.stock.parts]
        self._parts_due = now
        self._parts_still_at = now + 1.0
        self._quiet: dict[str, float] = {}
        self._start = math.inf if self.options.people_wait else now + self.options.start_people
        self.people = people_of(self.scenario, workcell.floor, self.seed)
        self._unjudged: list[Moment] = []
        self._linkage, self._deceleration = load_linkage(arm), [2.0 * v for v in arm.brake]
        self._judge = self._appoint(now)
        self._account = RefereeReport(now, NEVER, 0, 0, 0, 0)
        self._connect(ports)

    def _referee(self) -> Referee:
        return Referee(self._linkage, self.options.referee, self._deceleration, bool(self.people))

    def _appoint(self, now: float) -> Judge:
        if self.options.judged == "here" or not self.people:
            return DirectJudge(self._referee(), self.people, now)
        return JudgeApart(self._referee, self.people, now, background=self.options.judged == "meanwhile")

    def _connect(self, ports: Ports) -> None:
        self._commands = ports.subscriber(TOPIC_DRIVE_COMMAND, DriveCommand)
        self._states = ports.publisher(TOPIC_DRIVE_STATE, DriveState)
        self._scenes = ports.publisher(TOPIC_SCENE, Scene)
        self._reports = ports.publisher(TOPIC_REFEREE, RefereeReport)
        self._events = ports.event_source()
        self._service = ports.responder(SERVICE, TwinInput | TwinFault | TwinRestock | TwinStart | TwinTruth)

    # ------------------------------------------------------------ one step

    def step(self, now: float) -> None:
        """Take what arrived, advance physics to `now` and publish the truth."""
        for incoming in self._service.requests():
            self._service.reply(incoming.client, self._answer(incoming, now))
        self._take_command(now)
        self._advance(now)
        if self.people:
            reading = self._reading
            arm = ArmTruth(reading.q, reading.dq, reading.fingers, self.world.held_box())
            self._unjudged.append(Moment(now, self._since(now), arm))
        if len(self._unjudged) >= JUDGED_TOGETHER and self.options.judged == "here":
            self._have_judged(now)
        self._publish_state()
        if now >= self._scene_due - 1e-9:
            self._scenes.send(self._scene(now), now)
            self._scene_due = max(self._scene_due + 1.0 / self.options.scene_hz, now)
        if now >= self._look_due - 1e-9:
            self._have_judged(now)
            self._look_due = now + LOOK_EVERY
            self._look(now)
            self._reports.send(self._account, now)

    def _since(self, now: float) -> float:
        """Time on the people's clocks, s."""
        return max(now - self._start, 0.0) if self.options.people_wait else now - self._start

    def _have_judged(self, now: float) -> None:
        """Let the referee see the truth since the last time; report every new contact and violation."""
        if not self.people:
            self._account = msgspec.structs.replace(self._account, t=now)
        if not self._unjudged or (self.options.judged == "meanwhile" and not self._judge.free()):
            return
        row, self._unjudged = self._unjudged, []
        self._take_account(self._judge.see(row), now)

    def _take_account(self, account: RefereeReport, now: float) -> None:
        before, self._account = self._account, account
        for kind in ("contacts_while_moving", "contact_limit_exceedances", "psd_violations"):
            if getattr(self._account, kind) > getattr(before, kind) and now >= self._quiet.get(kind, -math.inf):
                # One event for a row of steps; the counters count every step.
                self._events.emit(f"twin.{kind}", now, count=getattr(self._account, kind), **self._account.worst)
                self._quiet[kind] = now + 0.1

    def _advance(self, now: float) -> None:
        dt = self.world.dt
        if self._steps == 0:
            # Nothing has moved yet: the time between construction and the first step is not owed.
            self._t = max(self._t, now - max(self.period, dt))
        behind = now - self._t
        if behind > self.options.catch_up + 0.5 * dt:
            self._events.emit("twin.late", now, skipped=behind - self.options.catch_up)
            self._t = now - self.options.catch_up
        while now - self._t > 0.5 * dt:
            self._physics_step()
            self._t += dt
        self._t = now if abs(now - self._t) < 1e-6 else self._t

    def _physics_step(self) -> None:
        self.world.step(self._target())
        self._reading = self.world.reading()
        self._steps += 1
        if self.drives.fault != self._fault:
            self._fault = self.drives.fault
            self._events.emit("twin.drive_fault", self._t, fault=self._fault)

    def _target(self) -> DriveTarget:
        """What the joints are to do until the next physics step."""
        command = self._command
        inputs = DriveInputs(
            self._inputs["emergency_stop"],
            self._inputs["safeguard"],
            command.stop_category if command is not None else -1,
            command.recover_seq if command is not None else 0,
        )
        return self.drives.step(self._t, self.world.dt, inputs, self._reading.q)

    # ------------------------------------------------------------ from the robot node

    def _take_command(self, now: float) -> None:
        envelope = self._commands.take()
        if envelope is None:
            return
        if envelope.boot != self._boot:
            self._boot = envelope.boot
            self._gripper_seq = 0
            self.drives.new_sender()
        command = envelope.body
        self._command = command
        if command.setpoint is not None:
            self.drives.accept(command.setpoint, self._t, self._reading.q)
        if command.gripper_seq > self._gripper_seq:
            self._gripper_seq = command.gripper_seq
            if math.isfinite(command.gripper_width) and math.isfinite(command.gripper_force):
                self.world.grip(command.gripper_width, command.gripper_force)

    def _publish_state(self) -> None:
        if "drives_silent" in self._faults:
            return
        if "state_frozen" not in self._faults:
            self._seq += 1
            reading = self._reading
            q = [float("nan")] * len(reading.q) if "state_nan" in self._faults else reading.q.tolist()
            self._drive_state = DriveState(
                DriverState(
                    seq=self._seq,
                    t=self._t,
                    q=q,
                    dq=reading.dq.tolist(),
                    tau=reading.tau.tolist(),
                    gripper_width=reading.fingers,
                    gripper_holding=bool(self.world.held),
                    inputs=dict(self._inputs),
                    outputs=dict(self._command.outputs) if self._command is not None else {},
                    emergency_stop=self._inputs["emergency_stop"],
                    safeguard=self._inputs["safeguard"],
                    fault=self.drives.fault,
                    enabling_device=self._inputs["enabling_device"],
                    tool="" if "tool_changed" in self._faults else self._tool,
                    mode_switch=mode_switch(self._inputs),
                ),
                self.drives.watchdog_tripped,
            )
        self._states.send(self._drive_state, self._t)

    # ------------------------------------------------------------ truth

    def _scene(self, now: float) -> Scene:
        return Scene(now, self._reading.q.tolist(), self._reading.fingers, self.people_now(now), self._parts_now(now))

    def _parts_now(self, now: float) -> list[PartPose]:
        """Every part every 0.1 s; in between only while one is held or has just been let go."""
        if self.world.held:
            self._parts_still_at = now + 2.0
        if now >= self._parts_due - 1e-9 or now <= self._parts_still_at or not self._parts:
            self._parts_due = now + 0.1
            poses = self.world.stock.poses().items()
            self._parts = [
                PartPose(name, kind, (*at, *turn)) for kind, (name, (at, turn)) in zip(self._kinds, poses, strict=True)
            ]
        return self._parts

    def people_now(self, now: float) -> list[BodyPose]:
        """Poses of the people at `now`."""
        since = self._since(now)
        return [BodyPose(h.name, h.bones(since).astype("<f4").tobytes(), h.body.name) for h in self.people]

    def joint_speed(self) -> float:
        """Truth: speed of the fastest joint after the last step, rad/s."""
        return float(np.abs(self._reading.dq).max())

    def drives_stop_time(self) -> float:
        """Time the drives' own stop would take from the present speed, s."""
        return float((np.abs(self._reading.dq) / self.drives.limits.brake).max())

    def parts(self) -> dict[str, list[float]]:
        """Truth: name -> x, y, z, qx, qy, qz, qw of every part."""
        return {name: [*at, *turn] for name, (at, turn) in self.world.stock.poses().items()}

    def parts_in(self, lower: tuple[float, float, float], upper: tuple[float, float, float]) -> list[str]:
        """Truth: names of the parts whose centre lies in the axis-aligned box, base frame, m."""
        return self.world.stock.inside(lower, upper)

    def _look(self, now: float) -> None:
        """Report parts that have come to rest somewhere else, and what the arm has begun to touch."""
        if self._watch.moved({name: at for name, (at, _) in self.world.stock.poses().items()}, bool(self.world.held)):
            self._events.emit("twin.parts", now, parts=self.parts())
        for link, other in self._watch.begun({(link, other) for link, other, _ in self.world.arm_contacts()}):
            self._events.emit("twin.collision", now, link=link, other=other)

    # ------------------------------------------------------------ requests

    def _answer(self, incoming: Incoming, now: float) -> Reply:
        body = incoming.body
        if isinstance(body, TwinTruth):
            return Reply(incoming.id, "done", data={"parts": self.parts(), "t": self._t})
        if isinstance(body, TwinStart):
            if math.isinf(self._start):
                self._start = now + self.options.start_people
                self._events.emit("twin.started", now)
            return Reply(incoming.id, "done")
        if isinstance(body, TwinInput):
            if not body.name or len(body.name) > 60 or (body.name not in self._inputs and len(self._inputs) >= 64):
                return Reply(incoming.id, "rejected", f"no input can be called {body.name[:60]!r}")
            self._inputs[body.name] = bool(body.value)
            self._events.emit("twin.input", now, name=body.name, value=bool(body.value))
            return Reply(incoming.id, "done")
        if isinstance(body, TwinRestock):
            return self._restock(incoming.id, now)
        problem = self._inject(body)
        if problem:
            return Reply(incoming.id, "rejected", problem)
        self._events.emit("twin.fault", now, name=body.name, value=body.value)
        return Reply(incoming.id, "done")

    def _restock(self, request: str, now: float) -> Reply:
        if not self.world.restock():
            return Reply(request, "rejected", f"{self.world.held} is in the gripper")
        # The next scene shows them where they are now.
        self._parts_due, self._parts_still_at = now, max(self._parts_still_at, now + 1.0)
        self._events.emit("twin.restocked", now)
        return Reply(request, "done")

    def _inject(self, fault: TwinFault) -> str:
        """Switch a fault on (value > 0; `joint_stuck`: number of the joint from 1) or off (0). Returns a refusal."""
        if fault.name not in FAULTS:
            return f"no fault {fault.name!r}: the twin knows {', '.join(FAULTS)}"
        dof = len(self._reading.q)
        on = fault.value > 0.0
        if not math.isfinite(fault.value):
            return "the value must be finite"
        if fault.name == "joint_stuck":
            if on and not (float(fault.value).is_integer() and fault.value <= dof):
                return f"joint_stuck takes the number of a joint, 1 to {dof}, or 0"
            self.world.stick_joint(int(fault.value) - 1 if on else None)
        elif fault.name == "payload":
            if not 0.0 <= fault.value <= 50.0:
                return "payload takes a mass from 0 to 50 kg"
            self.world.set_payload(float(fault.value))
        elif fault.name == "lose_part":
            return "" if self.world.lose_part() else "no part is held"
        elif fault.name == "ignore_stop":
            self.drives.ignore_setpoint_stops = on
        elif fault.name == "ignore_vendor_stop":
            self.drives.ignore_setpoint_stops = self.drives.ignore_vendor_stop = on
        elif on:
            self._faults[fault.name] = fault.value
        else:
            self._faults.pop(fault.name, None)
        return ""

    def warm_up(self) -> None:
        """Load the compiled kernels before the clock runs; the world and the referee's account stay as they are."""
        q = self._reading.q
        drives = SimulatedDrives(self.drives.limits, q)
        for n in range(3):
            drives.accept(Setpoint(n + 1, n * 0.004, q.tolist(), [0.0] * len(q)), n * 0.004, q)
            drives.step(n * 0.004, self.world.dt, DriveInputs(False, False, -1, 0), q)
        people = [PersonTrack(h.name, h.body.name, h.bones_row([0.0, 0.0])) for h in self.people]
        referee = self._referee()
        arm = ArmTruth(q, np.full_like(q, 0.5), self._reading.fingers, None)
        for n in range(0, 30, 2):  # its exact measurement comes only every so many steps
            referee.observe_all([n * self.period, (n + 1) * self.period], [arm, arm], people)
        referee.close()
        self.world.link_motion()
        self._scene(self._t)

    def close(self) -> None:
        """Report where the parts are and the referee's account, and free the physics clients. Idempotent."""
        if self.world.client >= 0:
            if self._unjudged:
                self._judge.see(self._unjudged)
                self._unjudged = []
            self._take_account(self._judge.settle(), self._t)
            self._events.emit("twin.referee", self._t, **msgspec.structs.asdict(self._account))
            self._judge.close()
            self._events.emit("twin.parts", self._t, parts=self.parts(), final=True)
            self.world.close()
