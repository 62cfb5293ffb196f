"""What speaks against a person's command that the PackML state would admit: a text each, for refusals and displays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cell.alarms import SEVERITY

if TYPE_CHECKING:
    from cell.unit import Unit


def objection(unit: Unit, name: str) -> str:
    """Return why a command would be refused though the state admits it; empty if nothing speaks against it."""
    if name in ("Reset", "Start", "Unhold", "Clear"):
        # An alarm that reacts less than the state it led to does not keep the person from clearing that state.
        level = SEVERITY["abort"] if name == "Clear" else SEVERITY["hold"]
        open_ = [
            a
            for a in unit.alarms.listed()
            if a.active and SEVERITY[a.definition.reaction] >= level and not _resolved(unit, a.code, name)
        ]
        if open_:
            return f"{open_[0].definition.text}: {open_[0].definition.remedy}"
    if name == "Start":
        return _not_startable(unit)
    if name == "Unhold" and unit.sequencer is not None and unit.sequencer.failure is not None:
        return "" if unit.sequencer.choice_made else "choose a recovery for the failed phase first"
    return ""


def _resolved(unit: Unit, code: str, name: str) -> bool:
    """Unhold itself is the person's answer to these causes."""
    if name != "Unhold":
        return False
    chosen = unit.sequencer is not None and unit.sequencer.choice_made
    return code == "supervisor_restarted" or (code == unit.phase_alarm and chosen)


def _not_startable(unit: Unit) -> str:
    if unit.loading:
        return f"{unit.loading} is being analysed"
    if unit.frozen is None:
        return "no recipe is loaded"
    if not unit.frozen.analysis.ok:
        return f"the recipe has {len(unit.frozen.analysis.problems)} problems: {unit.frozen.analysis.problems[0]}"
    if unit.mode != "automatic":
        return "the cell is in manual mode"
    if unit.seen.status is None:
        return "no safety supervisor has reported yet"
    seen = unit.seen.observation
    if seen is not None and not seen.confirmed_clear:
        # The monitor would refuse every motion: better said before the start than by a latched stop after it.
        return "nobody has confirmed since the cell came up that it is clear: look that nobody is in it, then say so"
    return ""


def objections(unit: Unit) -> dict[str, str]:
    """Return what speaks now against each command that the present state admits."""
    admitted = unit.packml.table.admitted(unit.packml.state)
    found = {name: objection(unit, name) for name in admitted}
    return {name: reason for name, reason in found.items() if reason}


def manual_objection(unit: Unit) -> str:
    """Why nothing can be moved by hand now; empty: it can. The enabling device is the robot node's affair."""
    state = unit.seen.state
    if unit.mode != "manual":
        return "the cell is in automatic mode"
    if unit.packml.state not in RESTING:
        return f"nothing is moved by hand in {unit.packml.state}"
    if state is None or not unit.arm.connected or unit.alarms.is_active("robot_lost"):
        return "the robot node is not connected"
    if state.fault:
        return f"{state.fault}: {state.fault_text}"
    if state.mode != "manual":
        return "the robot node is not in manual mode yet"
    return ""


RESTING = frozenset({"Stopped", "Idle", "Complete", "Aborted"})
"""States in which nothing of a recipe is under way."""
