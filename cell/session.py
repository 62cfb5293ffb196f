"""One run of a cell, as all its processes must see it: written once by the launcher, read by every node."""

from __future__ import annotations

import os
import secrets
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import msgspec

from cell.bus.zeromq import Addresses
from cell.config import SHADOW_WORLD, LoadedCell, WorldConfig, beside, load_cell
from cell.options import RunOptions
from safety.acceptance import AcceptanceError, acceptance_faults, load_trusted, trust_path
from safety.config import SafetyConfig, fingerprint, load_safety
from safety.contract import SECOND
from safety.methods import Method

WORLD, PERCEPTION, SUPERVISOR, CONTROLLER, ARM = "twin", "perception", "supervisor", "controller", "arm"
LEDGER, RECORDER, OPERATOR = "ledger", "recorder", "operator"
SKELETONS = "skeletons"
PENDANT = "pendant"
"""Serves people in a browser. No node waits for it or misses it: it is not among the session's nodes."""
RUN_PREFIX = "cell-"
"""Begins the names of folders that live runs make for sockets and frames."""
NO_ARM = "null"
"""The driver that moves nothing."""
SHADOW = SHADOW_WORLD
"""The world whose arm follows another."""


class SessionError(Exception):
    """A session that cannot start; the text says why and what to do."""


class PendantFile(msgspec.Struct, frozen=True):
    """How the pendant is served."""

    port: int
    """TCP port on 127.0.0.1."""
    data: str
    """Folder of accounts, points, own recipes."""
    runs: str
    """Folder with one folder a run."""


class SessionFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the launcher hands to its node processes (session.json, readable by its owner alone)."""

    directory: str
    cell: str
    recipe: str
    scenario: Any
    """Scenario name, file, or its content; None: empty cell."""
    seed: int
    batches: int
    settings: dict[str, str]
    perception: Literal["rendered", "surface"]
    key: str
    """Hex key that signs leases."""
    fingerprint: str
    mode: Literal["lockstep", "live"]
    bus: str
    """Folder of the sockets. Short and apart from the run's folder: the path of a socket has at most 107 characters."""
    shadow: bool = False
    """The world's arm follows the measured joints."""
    attended: bool = False
    """Somebody tells the world when the run starts: its people wait for that."""
    pendant: PendantFile | None = None
    """None: the cell has no pendant."""


@dataclass(frozen=True)
class Session:
    """A session with its files read and checked."""

    file: SessionFile
    cell: LoadedCell
    safety: SafetyConfig
    method: Method = "exact"
    """Coarser methods are for comparison in the twin; live sessions always have the exact one."""
    reach: float = 0.0
    """Of the arm in its work, m, where the method is a static zone."""

    @property
    def directory(self) -> Path:
        return Path(self.file.directory)

    @property
    def key(self) -> bytes:
        return bytes.fromhex(self.file.key)

    @property
    def simulation_only(self) -> bool:
        """Nothing real is moved: the arm is simulated, or its driver moves nothing."""
        config = self.cell.config
        simulated = config.world is not None and config.robot.driver == config.world.driver
        return simulated or config.robot.driver == NO_ARM

    @property
    def skeletons(self) -> bool:
        """Are people looked for in the cameras' colours?"""
        return self.cell.config.people.skeletons and self.file.perception == "rendered"

    @property
    def shadow(self) -> bool:
        """Is there a world whose arm follows the cell's?"""
        world = self.cell.config.world
        return world is not None and world.driver == SHADOW

    @property
    def node_names(self) -> tuple[str, ...]:
        """All nodes, in the order in which they step."""
        cameras = [] if self.file.perception == "surface" else [f"camera.{c.name}" for c in self.cell.config.cameras]
        world = [WORLD] if self.cell.config.world is not None else []
        second = [SECOND] if SECOND in self.cell.config.robot.leases.issuers else []
        people = [SKELETONS] if self.skeletons else []
        return (*world, *cameras, PERCEPTION, SUPERVISOR, *second, CONTROLLER, ARM, *people, LEDGER, RECORDER)

    @property
    def addresses(self) -> Addresses:
        pendant = [PENDANT] if self.file.pendant is not None else []
        return Addresses(Path(self.file.bus), [*self.node_names, OPERATOR, *pendant])


def read_safety(cell: LoadedCell) -> SafetyConfig:
    """Read the safety configuration of a cell. Raises FileErrors with every fault."""
    return load_safety(cell.safety_path, cell.config.workcell.person_volume)


def session_fingerprint(cell: LoadedCell, safety: SafetyConfig) -> str:
    """Fingerprint of everything the safety decisions rest on: it stands on each lease."""
    c = cell.config
    cameras = [camera.model_dump(mode="json") for camera in c.cameras]
    return fingerprint(safety, c.perception, c.workcell, c.robot, cameras)


def scenario_of(options: RunOptions, cell: LoadedCell) -> Any:
    """Return what the world is given as scenario: `--person` beats `--scenario` beats the cell file."""
    if options.people:
        people = [
            {
                "name": f"person_{i + 1}",
                "mocap": {"clip": _clip(p.clip), "at": list(p.at), "start_s": p.start, "loop": p.loop},
            }
            for i, p in enumerate(options.people)
        ]
        return {"scenario": "persons", "seed": options.seed, "people": people}
    name = options.scenario if options.scenario is not None else cell.config.scenario
    if name == "none":
        return None
    path = beside(cell.path, name)
    return str(path.resolve()) if path.is_file() else name


def _clip(clip: str) -> str:
    """Node processes run elsewhere: a file is named by its absolute path."""
    path = Path(clip)
    return str(path.resolve()) if path.is_file() else clip


def new_session(
    options: RunOptions, directory: Path, attended: bool = False, pendant: PendantFile | None = None
) -> Session:
    """Read and check all files and deal out the session's key. Raises FileErrors, SessionError."""
    cell = load_cell(options.cell)
    if options.shadow:
        cell = with_shadow(cell)
    safety = read_safety(cell)
    _check_delays(cell, safety)
    file = SessionFile(
        directory=str(directory.resolve()),
        cell=str(cell.path.resolve()),
        recipe=str(options.recipe.resolve()) if options.recipe is not None else "",
        scenario=scenario_of(options, cell),
        seed=options.seed,
        batches=options.batches,
        settings=dict(options.settings),
        perception=options.perception,
        key=secrets.token_hex(32),
        fingerprint=session_fingerprint(cell, safety),
        mode=options.mode,
        bus=tempfile.mkdtemp(prefix=RUN_PREFIX) if options.mode == "live" else "",
        shadow=options.shadow,
        attended=attended,
        pendant=pendant,
    )
    session = Session(file, cell, safety)
    _check_acceptance(session)
    return session


def with_shadow(cell: LoadedCell) -> LoadedCell:
    """The cell with a twin that follows its arm. Raises SessionError if the arm is the twin's own."""
    config = cell.config
    if config.world is not None and config.world.driver == config.robot.driver:
        raise SessionError(
            f"{cell.path}: the arm of this cell is the twin's own (robot.driver: {config.robot.driver}): there is no "
            "other arm for a shadow to follow. Leave --shadow out"
        )
    world = WorldConfig(driver=SHADOW, options=dict(config.world.options) if config.world is not None else {})
    return replace(cell, config=config.model_copy(update={"world": world}))


def _check_acceptance(session: Session) -> None:
    """A real arm moves only by a safety configuration that two safety engineers have signed as it is now."""
    if session.simulation_only:
        return
    path = session.cell.safety_path
    try:
        faults = acceptance_faults(path, session.safety, load_trusted(trust_path(path)))
    except AcceptanceError as error:
        faults = [str(error)]
    if faults:
        raise SessionError("\n".join(["a real arm is not moved by this safety configuration:", *faults]))


def _check_delays(cell: LoadedCell, safety: SafetyConfig) -> None:
    """The reaction time must hold for what is really there."""
    tick = safety.reaction.tick
    if cell.config.robot.period > tick + 1e-9:
        raise SessionError(
            f"{cell.safety_path}: reaction.tick is {tick} s, but the robot node runs every "
            f"{cell.config.robot.period} s: raise it to at least that"
        )
    if cell.config.perception.smallest_object * 1000.0 > safety.detection_capability_mm + 1e-9:
        raise SessionError(
            f"{cell.path}: perception.smallest_object is {cell.config.perception.smallest_object} m, but C is computed "
            f"for {safety.detection_capability_mm:g} mm: lower it or raise detection_capability_mm"
        )
    _check_identified(cell, safety)
    if cell.config.robot.leases.validity < safety.reaction.lease_validity:
        raise SessionError(
            f"{cell.path}: robot.leases.validity is shorter than the lease validity of the safety configuration "
            f"({safety.reaction.lease_validity:.3f} s): every lease would be refused"
        )


def _check_identified(cell: LoadedCell, safety: SafetyConfig) -> None:
    """The monitor must count on no less than what was measured of the drives."""
    found = cell.config.robot.identified
    if found is None:
        return
    allowed = safety.reaction.drive_delay
    if found.delay > allowed + 1e-9:
        raise SessionError(
            f"{cell.path}: robot.identified: the drives were measured to be up to {found.delay} s late, "
            f"{cell.safety_path} counts on {allowed} s: raise reaction.drive_delay to at least that"
        )
    if found.stopping_table_sha256 is not None and found.stopping_table_sha256 != safety.stopping_table_sha256:
        raise SessionError(
            f"{cell.path}: robot.identified: a stopping table was measured (SHA-256 {found.stopping_table_sha256}), "
            f"but {cell.safety_path} does not name it: its stops would not be counted on. Set stopping_table and "
            "stopping_table_sha256"
        )


def save_session(session: Session) -> Path:
    """Write session.json and make the folder of the sockets; return the file."""
    session.directory.mkdir(parents=True, exist_ok=True)
    path = session.directory / "session.json"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(msgspec.json.encode(session.file))
    return path


def load_session(path: Path) -> Session:
    """Read session.json and the files it names. Raises SessionError if they have changed since the launch."""
    file = msgspec.json.decode(path.read_bytes(), type=SessionFile)
    cell = load_cell(Path(file.cell))
    if file.shadow:
        cell = with_shadow(cell)
    safety = read_safety(cell)
    if session_fingerprint(cell, safety) != file.fingerprint:
        raise SessionError(f"{file.cell} or its safety file changed since the launch: start the cell again")
    session = Session(file, cell, safety)
    _check_acceptance(session)
    return session


def entry_point(group: str, name: str) -> Any:
    """Load an entry point. Raises SessionError naming what there is."""
    found = {e.name: e for e in entry_points(group=group)}
    if name not in found:
        raise SessionError(f"no {group} is called {name!r}: there are {', '.join(sorted(found)) or 'none'}")
    return found[name].load()
