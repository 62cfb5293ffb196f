"""`cell robots`: which arms and drivers are installed."""

from __future__ import annotations

from importlib import resources

from cell.config import installed
from cell.exits import OK


def list_robots() -> int:
    """Print arms and drivers; return the exit code."""
    from rich.console import Console
    from rich.table import Table

    from robots.model import RobotModel

    table = Table(title="arms", title_justify="left")
    for name in ("model", "joints", "reach", "tool", "opening"):
        table.add_column(name, justify="right" if name in ("joints", "reach", "opening") else "left")
    for file in sorted(resources.files("robots").joinpath("models").iterdir(), key=lambda f: f.name):
        if not file.name.endswith(".yaml"):
            continue
        model = RobotModel.load(file.name.removesuffix(".yaml"))
        opening = f"{model.gripper_max * 1000:.0f} mm" if model.gripper_max else "-"
        table.add_row(model.name, str(model.dof), f"{model.reach:.2f} m", model.tool_name, opening)
    console = Console()
    console.print(table)
    drivers = ", ".join(installed("cell.robot_drivers")) or "none"
    console.print(f"drivers: {drivers}   cameras: {', '.join(installed('cell.cameras')) or 'none'}")
    return OK
