"""A UR controller as its clients see it: RTDE, dashboard and script ports over TCP, with any arm behind them.

It speaks the wire protocols only. Programs are not interpreted: it knows the control program that `ur_rtde` loads and
does what that asks for through the registers (`sim.ur_script`); any other program is answered as one that fails.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from robots.contract import Driver
from sim import ur_dashboard, ur_rtde
from sim.ur_machine import Machine, ProgramState
from sim.ur_script import ControlProgram, program_name, split_programs

UNSENT = 1 << 16
"""A client that leaves so many bytes unread is given up."""
CLIENTS = 32
Position = Callable[[list[float]], list[float]]


class Ports(NamedTuple):
    """TCP ports; those of the vendor unless somebody else has them."""

    dashboard: int = 29999
    primary: int = 30001
    secondary: int = 30002
    realtime: int = 30003
    rtde: int = 30004


class _Client:
    """One connection: bytes come and go, nothing waits."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self.buffer = bytearray()
        self.unsent = bytearray()
        self.open = True

    def receive(self) -> None:
        try:
            data = self.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.open = False
        self.buffer += data

    def send(self, data: bytes) -> None:
        self.unsent += data
        try:
            sent = self.connection.send(self.unsent)
            del self.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.open = False
        if len(self.unsent) > UNSENT:
            self.open = False


class _RtdeClient(_Client):
    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.outputs: ur_rtde.Recipe | None = None
        self.inputs: list[ur_rtde.Recipe] = []
        self.claimed: set[str] = set()
        self.rate = 0.0
        self.started = False
        self.next = 0.0


class UrController:
    """One arm behind a UR controller. `step` at 500 Hz or as often as can be; it never waits."""

    def __init__(
        self,
        arm: Driver,
        address: str = "127.0.0.1",
        ports: Ports | None = None,
        machine: Machine | None = None,
        tcp_pose: Position | None = None,
    ) -> None:
        """`tcp_pose`: x, y, z, and rotation vector of the tool for given joints. Raises OSError if a port is taken."""
        self.machine = machine or Machine(arm)
        self.address, self.ports = address, ports or Ports()
        self.cable = True
        """False: nothing passes, and nobody is told."""
        self.refused = 0
        """Packages, lines and programs that were none."""
        self.inputs: dict[str, ur_rtde.Value] = {}
        """What clients wrote last."""
        self.program = ControlProgram(self.machine)
        self._tcp_pose = tcp_pose
        self._origin: float | None = None
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        self._clients: dict[socket.socket, _Client] = {}
        self._kinds: dict[socket.socket, str] = {}
        try:
            for kind, port in self.ports._asdict().items():
                self._listen(kind, port)
        except OSError:
            self.close()
            raise

    def _listen(self, kind: str, port: int) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listeners.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.address, port))
        except OSError as error:
            raise OSError(error.errno, f"{self.address} port {port} ({kind}): {error.strerror}") from None
        listener.listen(8)
        listener.setblocking(False)
        self._kinds[listener] = kind
        self._selector.register(listener, selectors.EVENT_READ)

    # ------------------------------------------------------------ one cycle

    def step(self, now: float) -> None:
        """Take what has come, let the program and the arm go on by one cycle, tell everybody who asked for it."""
        if self.cable:
            self._hear(now)
        dt = self.machine.follow(now)
        self.program.cycle(self.inputs, now, dt)
        if self.cable:
            self._tell(now)
        for client in [c for c in self._clients.values() if not c.open]:
            self._drop(client)

    def _hear(self, now: float) -> None:
        ready = [key.fileobj for key, _ in self._selector.select(0) if isinstance(key.fileobj, socket.socket)]
        clients = [self._clients[found] for found in ready if found in self._clients]
        for found in ready:
            if found not in self._clients:
                self._accept(found)
        for client in clients:
            client.receive()  # all of them first: who hangs up gives its input variables back
        for client in clients:
            try:
                self._serve(client, self._kinds[client.connection], now)
            except ur_rtde.BadPackage:
                self.refused += 1
                client.open = False

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        kind = self._kinds[listener]
        if len(self._clients) >= CLIENTS:
            connection.close()
            return
        client = _RtdeClient(connection) if kind == "rtde" else _Client(connection)
        self._clients[connection], self._kinds[connection] = client, kind
        self._selector.register(connection, selectors.EVENT_READ)
        if kind == "dashboard":
            client.send(f"{ur_dashboard.GREETING}\n".encode())

    def _drop(self, client: _Client) -> None:
        self._selector.unregister(client.connection)
        del self._clients[client.connection], self._kinds[client.connection]
        client.connection.close()

    def _serve(self, client: _Client, kind: str, now: float) -> None:
        if isinstance(client, _RtdeClient):
            for package in ur_rtde.packages(client.buffer):
                self._package(client, *package, now)
        elif kind == "dashboard":
            self._lines(client, now)
        else:
            self._programs(client)

    # ------------------------------------------------------------ dashboard and programs

    def _lines(self, client: _Client, now: float) -> None:
        while b"\n" in client.buffer:
            line, _, rest = bytes(client.buffer).partition(b"\n")
            client.buffer[:] = rest
            said = ur_dashboard.answer(line.decode("ascii", "replace"), self.machine, now)
            client.send(f"{said}\n".encode())
        if len(client.buffer) > ur_dashboard.LONGEST:
            raise ur_rtde.BadPackage("a line without an end")

    def _programs(self, client: _Client) -> None:
        for source in split_programs(client.buffer):
            if self.machine.remote and self.program.load(source):
                continue
            self.refused += 1
            self.machine.popup = f"{program_name(source) or 'program'} was refused"

    # ------------------------------------------------------------ RTDE

    def _package(self, client: _RtdeClient, kind: int, body: bytes, now: float) -> None:
        if kind == ur_rtde.DATA:
            self._input(client, body, now)
        elif kind == ur_rtde.VERSION:
            asked = int.from_bytes(body, "big") if len(body) == 2 else 0
            client.send(ur_rtde.package(kind, bytes([asked == ur_rtde.PROTOCOL])))
        elif kind == ur_rtde.CONTROLLER:
            client.send(ur_rtde.package(kind, b"".join(n.to_bytes(4, "big") for n in ur_dashboard.VERSION)))
        elif kind == ur_rtde.OUTPUTS:
            rate, names, types = ur_rtde.setup_outputs(body)
            good = ur_rtde.NOT_FOUND not in types
            client.outputs, client.rate = (ur_rtde.Recipe.of(names, ur_rtde.OUTPUT_TYPES), rate) if good else (None, 0)
            client.send(ur_rtde.package(kind, bytes([good]) + ",".join(types).encode()))
        elif kind == ur_rtde.INPUTS:
            self._claim(client, body)
        elif kind in (ur_rtde.START, ur_rtde.PAUSE):
            client.started = kind == ur_rtde.START
            client.next = now
            client.send(ur_rtde.package(kind, bytes([client.started or kind == ur_rtde.PAUSE])))
        else:
            self.refused += 1
            client.send(ur_rtde.text(f"unknown package {kind}"))

    def _claim(self, client: _RtdeClient, body: bytes) -> None:
        others = (c for c in self._clients.values() if isinstance(c, _RtdeClient) and c is not client and c.open)
        names, types = ur_rtde.setup_inputs(body, set().union(*(c.claimed for c in others)))
        number = 0
        if not {ur_rtde.NOT_FOUND, ur_rtde.IN_USE} & set(types) and len(client.inputs) < 255:
            client.inputs.append(ur_rtde.Recipe.of(names, ur_rtde.INPUT_TYPES))
            client.claimed |= set(names)
            number = len(client.inputs)
        client.send(ur_rtde.package(ur_rtde.INPUTS, bytes([number]) + ",".join(types).encode()))

    def _input(self, client: _RtdeClient, body: bytes, now: float) -> None:
        number = body[0] if body else 0
        values = client.inputs[number - 1].unpack(body[1:]) if 1 <= number <= len(client.inputs) else None
        if values is None:
            self.refused += 1
            return
        self.inputs.update(values)
        self._switch(values)
        self.program.written(values, self.inputs, now)

    def _switch(self, values: dict[str, Any]) -> None:
        """Outputs and speed slider: their masks say what is meant."""
        mask = values.get("standard_digital_output_mask", 0)
        for bit in range(8):
            if mask >> bit & 1:
                self.machine.set_output(bit, bool(values.get("standard_digital_output", 0) >> bit & 1))
        if values.get("speed_slider_mask", 0):
            self.machine.slider = min(max(float(values.get("speed_slider_fraction", 0.0)), 0.0), 1.0)

    def _tell(self, now: float) -> None:
        if self.machine.state is None:
            return
        values: dict[str, ur_rtde.Value] | None = None
        for client in self._clients.values():
            if not isinstance(client, _RtdeClient) or client.outputs is None or not client.started:
                continue
            if now < client.next - 1e-4:
                continue
            client.next = max(client.next + 1.0 / client.rate, now)
            values = values or self._values()
            client.send(ur_rtde.package(ur_rtde.DATA, b"\x01" + client.outputs.pack(values)))

    def _values(self) -> dict[str, ur_rtde.Value]:
        """All output variables this controller has something to say about."""
        m, state = self.machine, self.machine.state
        assert state is not None
        self._origin = state.t if self._origin is None else self._origin
        pose = self._tcp_pose(state.q) if self._tcp_pose is not None else [0.0] * 6
        playing = m.program is ProgramState.PLAYING
        return {
            "timestamp": state.t - self._origin, "actual_q": state.q, "actual_qd": state.dq, "target_q": m.q,
            "target_qd": m.dq, "actual_TCP_pose": pose, "robot_mode": int(m.robot_mode),
            "safety_mode": int(m.safety_mode), "safety_status": int(m.safety_mode), "runtime_state": int(m.program),
            "robot_status_bits": m.status_bits, "safety_status_bits": m.safety_bits,
            "joint_mode": [253 if m.able else 239] * 6, "joint_temperatures": [25.0] * 6,
            "target_speed_fraction": m.slider, "speed_scaling": m.slider if playing else 1.0,
            "actual_digital_output_bits": m.output_bits, "actual_digital_input_bits": m.input_bits,
            "payload": m.payload, "payload_cog": m.payload_cog, "actual_main_voltage": 48.0,
            "actual_robot_voltage": 48.0, "actual_joint_voltage": [48.0] * 6, **self.program.registers,
        }  # fmt: skip

    def close(self) -> None:
        """Hang up."""
        for client in list(self._clients.values()):
            self._drop(client)
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.close()
        self._listeners.clear()
        self._selector.close()
