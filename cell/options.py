"""What the command line asks the launcher for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class PersonOption:
    """A person of the twin, moved by a recorded clip."""

    clip: str
    """A BVH or .joints_m.npz file, or the name of one of pybullet's clips."""
    at: tuple[float, float, float] = (1.6, 0.0, 180.0)
    """x, y in the cell frame, m, and heading in degrees."""
    start: float = 0.0
    """s after the run begins."""
    loop: bool = False


@dataclass(frozen=True)
class RunOptions:
    """One `cell run` (or `cell up`, where `recipe` is None and nothing starts by itself)."""

    recipe: Path | None
    cell: Path | None = None
    """None: the demo cell of the package."""
    scenario: str | None = None
    """A scenario's name or file; `none` is an empty cell; None: the people below, else the cell file's default."""
    people: tuple[PersonOption, ...] = ()
    batches: int = 1
    settings: dict[str, str] = field(default_factory=dict)
    """`--set name=value`, as typed; `recipes.formula.parse_settings` reads them."""
    mode: Literal["lockstep", "live"] = "lockstep"
    seed: int = 1
    perception: Literal["rendered", "surface"] = "rendered"
    json: Path | None = None
    """Where the summary is written."""
    runs: Path = Path("runs")
    """Folder that receives one folder a run: flight.mcap, events.sqlite, timeline.png, summary.json."""
    confirm_clear: bool = True
    """The person who starts the run has looked and nobody is in the unseen space of the cell."""
    time_limit: float = 600.0
    """Simulated (lock-step) or real seconds after which the run is given up, s."""
    quiet: bool = False
    paced: bool = False
    """Lock-step at the pace of the machine's clock, for arms that keep their own time."""
    slow_motion: float = 1.0
    """`paced`: so many of the machine's seconds make one of the cell's, for simulated arms that are as slow."""
    shadow: bool = False
    """The twin's arm follows the measured joints of the cell's arm."""
    pendant_port: int | None = None
    """`cell up`: TCP port of the pendant on 127.0.0.1; None: no pendant."""
    pendant_data: Path | None = None
    """Accounts, points and own recipes; None: `pendant-data` beside the runs."""
