"""The dashboard of a UR controller: what it answers to a line. No socket here.

Wording of questions and answers follows the vendor's public list for e-Series; where an answer only echoes a file or a
user, the emulator has neither and says so in the vendor's words.
"""

from __future__ import annotations

from sim.ur_machine import Machine, ProgramState, RobotMode, SafetyMode

GREETING = "Connected: Universal Robots Dashboard Server"
LONGEST = 1024
"""A longer line is no client's."""
VERSION = (5, 11, 1, 108318)
SERIAL = "20225500000"
_SAFETY_WORDS = {
    SafetyMode.NORMAL: "NORMAL",
    SafetyMode.REDUCED: "REDUCED",
    SafetyMode.PROTECTIVE_STOP: "PROTECTIVE_STOP",
    SafetyMode.SAFEGUARD_STOP: "SAFEGUARD_STOP",
    SafetyMode.ROBOT_EMERGENCY_STOP: "ROBOT_EMERGENCY_STOP",
    SafetyMode.VIOLATION: "VIOLATION",
    SafetyMode.FAULT: "FAULT",
}
_ROBOT_WORDS = {
    RobotMode.POWER_OFF: "POWER_OFF",
    RobotMode.IDLE: "IDLE",
    RobotMode.RUNNING: "RUNNING",
}
LOCAL = ("power on", "power off", "brake release", "play", "stop", "pause", "unlock protective stop", "restart safety")
"""Refused unless the controller is in remote control."""


def answer(line: str, machine: Machine, now: float) -> str:
    """What the dashboard says to one line (without its end)."""
    asked = line.strip()
    lower = asked.lower()
    if lower in LOCAL and not machine.remote:
        return f"Command is not allowed due to safety reasons: {asked} needs remote control"
    told = _told(lower, machine)
    if told is not None:
        return told
    done = _done(lower, machine, now)
    if done is not None:
        return done
    if lower.startswith("popup"):
        machine.popup = asked[len("popup") :].strip()
        return "showing popup"
    if lower.startswith(("addtolog", "load", "set operational mode")):
        return "Added log message" if lower.startswith("addtolog") else f"Error while executing: {asked}"
    return f"could not understand: '{asked}'"


def _told(asked: str, machine: Machine) -> str | None:
    """Questions: nothing changes."""
    match asked:
        case "robotmode":
            return f"Robotmode: {_ROBOT_WORDS[machine.robot_mode]}"
        case "safetymode":
            return f"Safetymode: {_SAFETY_WORDS[machine.safety_mode]}"
        case "safetystatus":
            return f"Safetystatus: {_SAFETY_WORDS[machine.safety_mode]}"
        case "programstate":
            return f"{machine.program.name} {machine.program_name or '<unnamed>'}"
        case "running":
            return f"Program running: {str(machine.program is ProgramState.PLAYING).lower()}"
        case "is in remote control":
            return str(machine.remote).lower()
        case "polyscopeversion":
            return "URSoftware {}.{}.{}.{} (Jan 01 2024)".format(*VERSION)
        case "version":
            return "{}.{}.{}.{}".format(*VERSION)
        case "get serial number":
            return SERIAL
        case "get robot model":
            return machine.model.upper().rstrip("E")
        case "get loaded program":
            return "No program loaded"
        case "get operational mode":
            return "NONE"
        case "isprogramsaved":
            return f"true {machine.program_name or '<unnamed>'}"
    return None


def _done(asked: str, machine: Machine, now: float) -> str | None:
    """Orders."""
    match asked:
        case "power on":
            machine.power_on()
            return "Powering on"
        case "power off":
            machine.power_off(now)
            return "Powering off"
        case "brake release":
            machine.release_brakes()
            return "Brake releasing"
        case "stop":
            machine.stop_program()
            return "Stopped"
        case "pause":
            return "Pausing program" if machine.pause() else "Failed to execute: pause"
        case "play":
            return "Starting program" if machine.play() else "Failed to execute: play"
        case "unlock protective stop":
            unlocked = machine.unlock(now)
            return (
                "Protective stop releasing" if unlocked else "Cannot unlock protective stop until 5s after occurrence"
            )
        case "restart safety":
            return "Restarting safety" if machine.restart_safety(now) else "Failed to execute: restart safety"
        case "close popup":
            machine.popup = ""
            return "closing popup"
        case "close safety popup":
            return "closing safety popup"
        case "quit":
            return "Disconnected"
    return None
