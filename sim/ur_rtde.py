"""RTDE, version 2, as the robot's controller speaks it: packages, recipes and values as bytes. No socket here.

Names and types of the variables are those of the vendor's public RTDE guide. Everything is big-endian; a package is its
own length (2 bytes, header included), its kind (1 byte) and its body.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

HEADER = struct.Struct(">HB")
LONGEST = 4096
"""A longer package is no client's: the vendor's own limit of a recipe is 2 kB."""
VERSION, CONTROLLER, TEXT, DATA = ord("V"), ord("v"), ord("M"), ord("U")
OUTPUTS, INPUTS, START, PAUSE = ord("O"), ord("I"), ord("S"), ord("P")
PROTOCOL = 2
FASTEST = 500.0
"""Packages a second."""
NOT_FOUND, IN_USE = "NOT_FOUND", "IN_USE"

Value = float | int | Sequence[float]

_FORMATS = {
    "BOOL": "?", "UINT8": "B", "UINT32": "I", "UINT64": "Q", "INT32": "i", "DOUBLE": "d",
    "VECTOR3D": "3d", "VECTOR6D": "6d", "VECTOR6INT32": "6i",
}  # fmt: skip
_REGISTERS = 48

OUTPUT_TYPES: dict[str, str] = {
    **dict.fromkeys(
        ("timestamp", "actual_execution_time", "speed_scaling", "target_speed_fraction", "actual_momentum",
         "actual_main_voltage", "actual_robot_voltage", "actual_robot_current", "standard_analog_input0",
         "standard_analog_input1", "standard_analog_output0", "standard_analog_output1", "payload"),
        "DOUBLE",
    ),
    **dict.fromkeys(
        ("target_q", "target_qd", "target_qdd", "target_current", "target_moment", "actual_q", "actual_qd",
         "actual_current", "joint_control_output", "actual_TCP_pose", "actual_TCP_speed", "actual_TCP_force",
         "target_TCP_pose", "target_TCP_speed", "joint_temperatures", "actual_joint_voltage", "ft_raw_wrench",
         "payload_inertia", "tcp_offset"),
        "VECTOR6D",
    ),
    **dict.fromkeys(("actual_tool_accelerometer", "payload_cog", "elbow_position"), "VECTOR3D"),
    **dict.fromkeys(("robot_mode", "safety_mode", "safety_status"), "INT32"),
    **dict.fromkeys(("robot_status_bits", "safety_status_bits", "runtime_state"), "UINT32"),
    **dict.fromkeys(("actual_digital_input_bits", "actual_digital_output_bits"), "UINT64"),
    "joint_mode": "VECTOR6INT32",
    **{f"output_int_register_{n}": "INT32" for n in range(_REGISTERS)},
    **{f"output_double_register_{n}": "DOUBLE" for n in range(_REGISTERS)},
}  # fmt: skip
"""What a client may ask for."""

INPUT_TYPES: dict[str, str] = {
    "speed_slider_mask": "UINT32",
    "speed_slider_fraction": "DOUBLE",
    **{f"{kind}_digital_output": "UINT8" for kind in ("standard", "configurable", "tool")},
    **{f"{kind}_digital_output_mask": "UINT8" for kind in ("standard", "configurable", "tool")},
    "standard_analog_output_mask": "UINT8",
    "standard_analog_output_type": "UINT8",
    "standard_analog_output_0": "DOUBLE",
    "standard_analog_output_1": "DOUBLE",
    "external_force_torque": "VECTOR6D",
    **{f"input_int_register_{n}": "INT32" for n in range(_REGISTERS)},
    **{f"input_double_register_{n}": "DOUBLE" for n in range(_REGISTERS)},
}  # fmt: skip
"""What a client may write. Each belongs to the first client that claims it, as on the vendor's controller."""


class BadPackage(Exception):
    """Bytes that are no package; the connection they came over is of no more use."""


class Recipe(NamedTuple):
    """Variables that travel together, in this order."""

    names: tuple[str, ...]
    code: struct.Struct

    @classmethod
    def of(cls, names: Sequence[str], types: dict[str, str]) -> Recipe:
        return cls(tuple(names), struct.Struct(">" + "".join(_FORMATS[types[name]] for name in names)))

    def pack(self, values: dict[str, Value]) -> bytes:
        """The values as bytes; the variables a controller without that equipment does not measure are 0."""
        flat: list[float] = []
        for name in self.names:
            value = values.get(name, 0)
            if isinstance(value, int | float):
                width = _WIDTH[OUTPUT_TYPES[name]]
                flat.extend([value] * width)
            else:
                flat.extend(value)
        return self.code.pack(*flat)

    def unpack(self, data: bytes) -> dict[str, Value] | None:
        """The values of an input package; None unless it has exactly this recipe's length and finite numbers."""
        if len(data) != self.code.size:
            return None
        flat = self.code.unpack(data)
        if not all(map(math.isfinite, flat)):
            return None
        values: dict[str, Value] = {}
        at = 0
        for name in self.names:
            width = _WIDTH[INPUT_TYPES[name]]
            values[name] = flat[at] if width == 1 else flat[at : at + width]
            at += width
        return values


_WIDTH = {name: int(code[0]) if len(code) > 1 else 1 for name, code in _FORMATS.items()}


def package(kind: int, body: bytes = b"") -> bytes:
    """A package to be sent."""
    return HEADER.pack(HEADER.size + len(body), kind) + body


def text(message: str, level: int = 1) -> bytes:
    """A text message (0 exception, 1 error, 2 warning, 3 info)."""
    said, source = message.encode()[:255], b"RTDE"
    return package(TEXT, bytes([len(said)]) + said + bytes([len(source)]) + source + bytes([level]))


def packages(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take whole packages out of what has come so far. Raises BadPackage for a length that cannot be."""
    while len(buffer) >= HEADER.size:
        size, kind = HEADER.unpack_from(buffer)
        if not HEADER.size <= size <= LONGEST:
            raise BadPackage(f"a package of {size} bytes")
        if len(buffer) < size:
            return
        body = bytes(buffer[HEADER.size : size])
        del buffer[:size]
        yield kind, body


def names_of(body: bytes) -> list[str]:
    """The variables of a set-up request; a comma at the end is allowed. Raises BadPackage if they are not text."""
    try:
        names = body.decode("ascii").split(",")
    except UnicodeDecodeError as error:
        raise BadPackage("names that are not ASCII") from error
    return names[:-1] if names and not names[-1] else names


def setup_outputs(body: bytes) -> tuple[float, list[str], list[str]]:
    """Packages a second, names and types (or `NOT_FOUND`) of an output set-up. Raises BadPackage."""
    if len(body) < 8:
        raise BadPackage("an output set-up without a frequency")
    (rate,) = struct.unpack_from(">d", body)
    if not 1.0 <= rate <= FASTEST:  # NaN fails it as well
        raise BadPackage(f"{rate} packages a second")
    names = names_of(body[8:])
    return rate, names, [OUTPUT_TYPES.get(name, NOT_FOUND) for name in names]


def setup_inputs(body: bytes, taken: set[str]) -> tuple[list[str], list[str]]:
    """Names and types of an input set-up; `taken` belong to other clients. Raises BadPackage."""
    names = names_of(body)
    return names, [IN_USE if name in taken else INPUT_TYPES.get(name, NOT_FOUND) for name in names]
