"""The other public EGM package at one end, in a process of its own: both register the same protobuf messages.

egm_peer.py client PORT ANSWERS         the package's client commands the first joint to 5 degrees, says what it read
egm_peer.py robot PORT                  our robot's end with the package's messages; a line with the time is a step
"""

from __future__ import annotations

import sys

from robots.drivers.null import NullDriver
from sim.egm_robot import EgmRobotEnd


def client(port: int, answers: int) -> None:
    from abb_robot_client.egm import EGM

    egm = EGM(port)
    print("ready", flush=True)
    start: list[float] = []
    for n in range(answers):
        came, state = egm.receive_from_robot(30.0)
        if not came:
            sys.exit("no feedback")
        start = start or [float(v) for v in state.joint_angles]
        goal = [start[0] + 5.0 * min(1.0, n / (0.8 * answers)), *start[1:]]
        egm.send_to_robot(goal, rapid_to_robot=[40.0, 10.0, 0.0, 0.0, 1.0])
    print(*state.joint_angles, state.motors_on, state.rapid_running, flush=True)
    egm.close()


def robot(port: int) -> None:
    arm = NullDriver({"model": "ur5e", "outputs": ["lamp_green", "lamp_amber", "lamp_red", "buzzer"]}, 6)
    end = EgmRobotEnd(arm, ("127.0.0.1", port), messages="abb_robot_client._egm_protobuf.egm_pb2")
    for line in sys.stdin:
        end.step(float(line))
        state = arm.state(float(line))
        assert state is not None
        print(*state.q, end.ignored, flush=True)
    end.close()


if __name__ == "__main__":
    client(int(sys.argv[2]), int(sys.argv[3])) if sys.argv[1] == "client" else robot(int(sys.argv[2]))
