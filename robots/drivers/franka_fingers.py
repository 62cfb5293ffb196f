"""The process that talks to the gripper of a Franka arm, whose client waits until the fingers stand.

`python -m robots.drivers.franka_fingers SOCKET MEMORY SETTINGS`, as `franka_worker`. A new grasp waits for the one
before it; only the newest of those that wait is carried out.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import select
import socket
import sys
import time
from typing import Any

import msgspec

from robots.drivers import franka_link as link
from robots.drivers.ur_link import Board

PORT = 1338
SPEED = 0.1
"""Of the fingers, m/s."""
PERIOD = 0.02
"""Time between two states, s."""
TRIED = 0.5
CLOSED = 1e-3
"""Fingers nearer to each other than this hold nothing, m."""


def carry_out(gripper: Any, grasp: link.Grasp) -> None:
    """Move the fingers, or close them until they press on something. Raises what the vendor's client raises."""
    if grasp.force > 0.0:
        # Whatever is between the fingers is wanted: what it should be, the robot node knows.
        gripper.grasp(grasp.width, SPEED, grasp.force, max(0.0, grasp.width - CLOSED), math.inf)
    else:
        gripper.move(grasp.width, SPEED)


def serve(gripper: Any, wire: socket.socket, board: Board) -> None:
    """Until the driver hangs up. Raises what the vendor's client raises."""
    wire.settimeout(PERIOD)
    done, problem, seq = 0, "", 0
    while True:
        state = gripper.read_once()
        seq += 1
        holding = bool(state.is_grasped) and state.width > CLOSED
        board.write(link.encode(link.Fingers(seq, state.width, holding, done, problem)))
        grasp = newest(wire)
        if grasp is None:
            continue
        try:
            carry_out(gripper, grasp)
            problem = ""
        except Exception as error:  # a grasp that was refused leaves the fingers where they are
            problem = f"gripper: {str(error).removeprefix('libfranka: ')}"
        done = grasp.count


def newest(wire: socket.socket) -> link.Grasp | None:
    """The last of the orders that wait, None if none comes in time. Raises OSError when the driver hangs up."""
    try:
        data = wire.recv(link.MOST)
        while data:
            found = link.decode_grasp(data)
            if not select.select([wire], [], [], 0.0)[0]:
                return found
            data = wire.recv(link.MOST)
    except TimeoutError:
        return None
    raise OSError("the driver is gone")


def main(wire: socket.socket, board: Board, address: str) -> None:
    """Reach the gripper, then serve it. Raises OSError when the driver hangs up."""
    vendor = importlib.import_module("pylibfranka")
    wire.settimeout(TRIED)
    told = ""
    while True:
        try:
            with socket.create_connection((address, PORT), TRIED):
                pass  # the vendor's client waits longer for nobody
            serve(vendor.Gripper(address), wire, board)
        except Exception as error:  # whatever the vendor's client raises
            if str(error) == "the driver is gone":
                return
            said = str(error).removeprefix("libfranka: ")
        if said != told:
            told = said
            remedy = "See that the hand is mounted, switched on in Desk, or set `gripper: false`"
            part = ("franka_gripper", f"{address} does not answer on port {PORT} (gripper): {said}", remedy)
            wire.send(link.encode(link.Failed([part])))
        time.sleep(TRIED)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as opened:
        with contextlib.suppress(OSError):  # the driver may be gone
            main(opened, Board(int(sys.argv[2])), msgspec.json.decode(sys.argv[3], type=str))
    os._exit(0)
