"""What a frame costs on its way: hand-over, colour, recording. Processor milliseconds, medians.

Run: python -m tests.benchmarks.bench_cameras
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cell.bus.zeromq import Addresses, ZmqPorts
from perception.cameras.colour import ColourMap, coloured, straight_grid
from perception.cameras.files import McapRecorder, McapRecording
from perception.cameras.links import BusSink, BusSource
from perception.cameras.ring import RingFormat, RingReader, RingWriter, ring_folder
from perception.contract import CameraInfo, Frame, Intrinsics

WIDTH, HEIGHT = 848, 480
LENS = Intrinsics(WIDTH, HEIGHT, 421.0, 421.0, 424.0, 240.0)
COUNT = 300


def frame(seq: int, colour: bool = False) -> Frame:
    """A noisy wall."""
    rng = np.random.default_rng(seq)
    depth = (2000 + 15.0 * rng.standard_normal((HEIGHT, WIDTH))).astype(np.uint16)
    return Frame("a", seq, 0.1 * seq, depth, np.zeros((HEIGHT, WIDTH, 3), np.uint8) if colour else None)


def cpu_ms(call: Callable[[int], object], count: int = COUNT) -> float:
    """Median processor time of `call(k)` in this process, ms."""
    for k in range(3):
        call(k)
    times = []
    for k in range(3, count + 3):
        start = time.process_time()
        call(k)
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times)


def ring(colour: bool, folder: Path) -> tuple[float, float]:
    """Write and read, ms."""
    form = RingFormat("a", LENS, colour)
    writer, reader = RingWriter(folder, form), RingReader(folder, form)
    sent = frame(1, colour)
    reader.take(-1.0)
    writing = cpu_ms(lambda k: writer.write(sent._replace(seq=k), float(k)))

    def both(k: int) -> None:
        writer.write(sent._replace(seq=k), float(k))
        assert reader.take(float(k)) is not None

    reading = cpu_ms(both) - writing
    reader.detach()
    writer.close()
    return writing, reading


def zeromq(folder: Path) -> float:
    """The same frame as a message over ipc, both ends, all threads, ms."""
    addresses = Addresses(folder, ["a", "b"])
    out, into = ZmqPorts("a", addresses), ZmqPorts("b", addresses)
    sink, source = BusSink(out, "a"), BusSource(into, "a")
    sent = frame(1)
    time.sleep(0.3)

    def both(k: int) -> None:
        sink.send(sent._replace(seq=k), float(k))
        for _ in range(1000):
            if source.take(float(k)) is not None:
                return
            time.sleep(0.0002)

    found = cpu_ms(both, 100)
    out.close()
    into.close()
    return found


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryDirectory(dir=ring_folder("x").parent) as memory:
        for colour in (False, True):
            writing, reading = ring(colour, Path(memory))
            print(f"ring, {WIDTH}x{HEIGHT}{' + colour' if colour else ''}: write {writing:.3f}, read {reading:.3f} ms")
        print(f"ZeroMQ, both ends: {zeromq(Path(temporary)):.3f} ms")
        turn, shift = np.eye(3), np.array([-0.059, 0.0, 0.0])
        mapping, one = ColourMap(LENS, turn, shift, LENS, straight_grid(LENS)), frame(1, True)
        assert one.colour is not None
        shade = one.colour
        print(f"colour of each depth pixel: {cpu_ms(lambda k: coloured(mapping, one.depth, shade), 60):.2f} ms")
        info = CameraInfo("a", "t", LENS, 30.0, tuple(np.eye(4).ravel().tolist()), 0.002, 0.3, 6.0)
        path = Path(temporary) / "a.mcap"
        recorder = McapRecorder(path, [info])
        print(f"recording: {cpu_ms(lambda k: recorder.add(one._replace(colour=None)), 60):.2f} ms", end=", ")
        recorder.close()
        frames = McapRecording(path).frames("a")
        size = path.stat().st_size / recorder.frames / 1e6
        print(f"playing: {cpu_ms(lambda k: next(frames), 40):.2f} ms, {size:.2f} MB a frame")


def test_bench_cameras() -> None:
    """`make bench`."""
    main()


if __name__ == "__main__":
    main()
