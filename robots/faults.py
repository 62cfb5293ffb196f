"""Faults of the robot node: stable codes with cause and remedy, latched until a person clears them."""

from __future__ import annotations

from typing import NamedTuple


class FaultKind(NamedTuple):
    """What a fault code means and what it does."""

    code: str
    cause: str
    remedy: str
    drops_motion: bool
    """The motion is given up; otherwise it is kept and can be resumed after clearing."""
    vendor_stop: bool
    """The drives' own stop (category 1) is called as well; clearing then recovers the drives."""


def _kinds() -> dict[str, FaultKind]:
    rows = [
        FaultKind(
            "lease_lost",
            "no valid speed lease for longer than the permitted gap",
            "check the safety supervisor, its cameras and the bus, then clear the fault",
            False,
            False,
        ),
        FaultKind(
            "safety_stop",
            "the safety supervisor stopped the arm for another cause than separation",
            "remove the cause it names (camera, configuration), see that nobody is near the arm, then clear the fault",
            False,
            False,
        ),
        FaultKind(
            "issuer_restarted",
            "a safety supervisor restarted while a motion was accepted",
            "see that the cell is clear, then clear the fault",
            False,
            False,
        ),
        FaultKind(
            "controller_lost",
            "the controller was silent for too long",
            "restart the controller, let it say hello, then clear the fault",
            True,
            False,
        ),
        FaultKind(
            "driver_lost",
            "the drives delivered no fresh state",
            "check power, cable and the vendor's controller, then clear the fault",
            True,
            True,
        ),
        FaultKind(
            "driver_invalid",
            "the drives reported values that are not finite, of wrong length or from the future",
            "check the driver and the vendor's controller, then clear the fault",
            True,
            True,
        ),
        FaultKind(
            "driver_fault",
            "the drives report a fault of their own",
            "remove the cause it names, then clear the fault",
            True,
            True,
        ),
        FaultKind(
            "node_slow",
            "the robot node runs more slowly than the reaction time allows for",
            "see what else loads the machine, then clear the fault",
            False,
            False,
        ),
        FaultKind(
            "tool_changed",
            "the drives report another tool than the cell file names",
            "mount the tool of the cell file and choose it in the vendor's controller, then clear the fault",
            True,
            False,
        ),
        FaultKind(
            "tracking_error",
            "the arm does not follow its setpoints",
            "look for a collision, a blocked joint or too heavy a part, then clear the fault",
            True,
            True,
        ),
        FaultKind(
            "stop_disobeyed",
            "the arm kept moving after it was told to stand",
            "do not enter the cell; switch the drives off and have them checked",
            True,
            True,
        ),
        FaultKind(
            "limit_violated",
            "a joint was measured outside its position limits",
            "move the joint back in the vendor's own mode, then clear the fault",
            True,
            True,
        ),
        FaultKind(
            "emergency_stop",
            "emergency stop",
            "remove the danger, release the emergency stop, then clear the fault",
            True,
            True,
        ),
        FaultKind(
            "safeguard_stop",
            "a safeguard opened",
            "see that nobody is inside, close the safeguard, then clear the fault",
            False,
            False,
        ),
        FaultKind(
            "stopped",
            "stop of category 1 was asked for",
            "clear the fault to switch the drives on again",
            True,
            True,
        ),
        FaultKind(
            "part_lost",
            "the gripper no longer holds the part",
            "find the part, then clear the fault",
            True,
            False,
        ),
        FaultKind(
            "internal",
            "the robot node met a value it cannot use",
            "restart the robot node and report the event that came with it",
            True,
            True,
        ),
    ]
    return {row.code: row for row in rows}


KINDS = _kinds()
"""All fault codes by name."""


class FaultBoard:
    """Latched faults in the order they came."""

    def __init__(self) -> None:
        self._latched: dict[str, str] = {}

    def latch(self, code: str, detail: str = "") -> bool:
        """Latch a fault; return whether it is new. Raises KeyError for an unknown code."""
        kind = KINDS[code]
        if code in self._latched:
            return False
        self._latched[code] = f"{kind.cause}{': ' + detail if detail else ''}. Remedy: {kind.remedy}"
        return True

    def clear(self) -> list[str]:
        """Forget all faults; return their codes."""
        codes = list(self._latched)
        self._latched.clear()
        return codes

    @property
    def codes(self) -> list[str]:
        return list(self._latched)

    @property
    def first(self) -> tuple[str, str]:
        """Code and text of the first latched fault; empty strings without one."""
        for code, text in self._latched.items():
            return code, text
        return "", ""

    def __bool__(self) -> bool:
        return bool(self._latched)

    def __contains__(self, code: str) -> bool:
        return code in self._latched
