"""Newest-only hand-off of frames from one camera process to its readers, through shared memory.

A segment holds a few slots that the writer fills in turn. Each slot carries a mark that is odd while it is written and
names the count of the frame when it is whole; a reader copies the newest slot and looks at the mark again, so a frame
that was overwritten meanwhile (torn) is told and never used. Nobody waits for anybody. The segment is a file in
`/dev/shm` that its writer keeps locked for life: what a killed writer left is recognised by its free lock and
replaced, a second writer is refused, and readers find the new segment by its name.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import shutil
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception.contract import Frame, Intrinsics

MAGIC = b"CELLRING"
VERSION = 1
SLOTS = 4
"""A reader has the time of three frames to copy one."""
SUFFIX = ".ring"
LARGEST_SIDE = 4096
_HEAD = struct.Struct("<8sIIIIIIdddd64sQ")
"""magic, version, slots, height, width, colour, bytes a slot, fx, fy, cx, cy, name, boot; its CRC-32 follows."""
_COUNT_AT, _FIRST_SLOT, _SLOT_HEAD = 512, 4096, 128
_META = struct.Struct("<QQqdddd")
"""count, boot, seq, exposure, exposure time, hardware time, time of writing; its CRC-32 follows."""
_META_AT = 64
"""In a slot; before it the mark, apart from it the pixels."""
LOOK_AGAIN = 0.05
"""How often a reader without news looks whether the segment was replaced, s."""
TRIES = 3
FORGOTTEN = 60.0
"""Folders of ended cells are cleared away when older than this, s."""


class RingError(Exception):
    """A ring that cannot be used; the text says why and what to do."""


_locks = threading.Lock(), threading.Lock()


def _fence() -> None:
    """Order what was written or read before against what comes after, on every processor: taking and leaving two locks,
    one after the other, is a full barrier. x86-64 would not need it for stores."""
    for lock in _locks:
        with lock:
            pass


class RingFormat:
    """Size and meaning of one camera's segment."""

    def __init__(self, camera: str, intrinsics: Intrinsics, colour: bool) -> None:
        """Raises RingError for a picture that is no picture."""
        k = intrinsics
        if not (2 <= k.width <= LARGEST_SIDE and 2 <= k.height <= LARGEST_SIDE):
            raise RingError(f"camera {camera}: {k.width} x {k.height} px: 2 to {LARGEST_SIDE} px a side")
        if not all(map(math.isfinite, (k.fx, k.fy, k.cx, k.cy))):
            raise RingError(f"camera {camera}: intrinsics are not finite")
        if not 1 <= len(camera.encode()) <= 64:
            raise RingError(f"camera name {camera!r}: 1 to 64 bytes")
        self.camera, self.intrinsics, self.colour = camera, intrinsics, colour
        self.depth_bytes = 2 * k.width * k.height
        self.colour_bytes = 3 * k.width * k.height if colour else 0
        whole = _SLOT_HEAD + self.depth_bytes + self.colour_bytes
        self.stride = -(-whole // 64) * 64
        self.size = _FIRST_SLOT + SLOTS * self.stride

    def head(self, boot: int) -> bytes:
        """The segment's first bytes."""
        k = self.intrinsics
        sizes = (k.height, k.width, int(self.colour), self.stride)
        lens = (k.fx, k.fy, k.cx, k.cy)
        fixed = _HEAD.pack(MAGIC, VERSION, SLOTS, *sizes, *lens, self.camera.encode(), boot)
        return fixed + struct.pack("<I", zlib.crc32(fixed))

    def check(self, head: bytes) -> int:
        """Return the boot number of a segment of exactly this format. Raises RingError naming what differs."""
        fixed = head[: _HEAD.size]
        if len(head) < _HEAD.size + 4 or head[:8] != MAGIC:
            raise RingError(f"camera {self.camera}: the segment is no ring")
        if struct.unpack_from("<I", head, _HEAD.size)[0] != zlib.crc32(fixed):
            raise RingError(f"camera {self.camera}: the head of the ring is damaged")
        _, version, slots, height, width, colour, stride, fx, fy, cx, cy, name, boot = _HEAD.unpack(fixed)
        found = (version, slots, height, width, bool(colour), stride, fx, fy, cx, cy, name.rstrip(b"\0").decode())
        k = self.intrinsics
        wanted = (VERSION, SLOTS, k.height, k.width, self.colour, self.stride, k.fx, k.fy, k.cx, k.cy, self.camera)
        names = ["version", "slots", "height", "width", "colour", "stride", "fx", "fy", "cx", "cy", "name"]
        wrong = [f"{n} {a} instead of {b}" for n, a, b in zip(names, found, wanted, strict=True) if a != b]
        if wrong:
            raise RingError(f"camera {self.camera}: the ring has {', '.join(wrong)}")
        return int(boot)


class _Views:
    """A mapped segment."""

    def __init__(self, handle: int, form: RingFormat, write: bool) -> None:
        access = mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
        self.memory = mmap.mmap(handle, form.size, access=access)
        k = form.intrinsics
        self.count = np.frombuffer(self.memory, np.uint64, 1, _COUNT_AT)
        at = [_FIRST_SLOT + i * form.stride for i in range(SLOTS)]
        self.marks = [np.frombuffer(self.memory, np.uint64, 1, a) for a in at]
        self.metas = [a + _META_AT for a in at]
        self.depths = [
            np.frombuffer(self.memory, np.uint16, k.width * k.height, a + _SLOT_HEAD).reshape(k.height, k.width)
            for a in at
        ]
        self.colours = [
            np.frombuffer(self.memory, np.uint8, form.colour_bytes, a + _SLOT_HEAD + form.depth_bytes).reshape(
                k.height, k.width, 3
            )
            for a in at
        ] if form.colour else []  # fmt: skip

    def close(self) -> None:
        """Let the memory go; arrays on it must not be used any more."""
        self.marks, self.depths, self.colours = [], [], []
        self.count = np.zeros(1, np.uint64)
        with contextlib.suppress(BufferError):
            self.memory.close()


class RingWriter:
    """The camera's end. One per camera and session; not thread safe."""

    def __init__(self, folder: Path, form: RingFormat, boot: int | None = None) -> None:
        """Make the segment, in place of one a dead writer left. Raises RingError: another writer lives, no room."""
        self.path = folder / f"{form.camera}{SUFFIX}"
        self.form = form
        self.boot = time.monotonic_ns() // 1000 if boot is None else boot
        self._count = 0
        self._handle = -1
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.geteuid():
                raise RingError(f"{folder} belongs to somebody else: remove it")
            self._guard = self._only_writer()
            self._handle = self._create()
        except OSError as error:
            raise RingError(f"ring {self.path}: {error.strerror}; give the cell room and rights there") from error
        self._views = _Views(self._handle, form, write=True)

    def _only_writer(self) -> int:
        guard = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(guard)
            raise RingError(f"ring {self.path} has a writer: is another camera.{self.form.camera} running?") from None
        return guard

    def _create(self) -> int:
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        # Room is taken now: a full memory is an error here instead of a fault at the first frame.
        os.posix_fallocate(handle, 0, self.form.size)
        os.pwrite(handle, self.form.head(self.boot), 0)
        os.rename(fresh, self.path)
        return handle

    def write(self, frame: Frame, now: float) -> None:
        """Publish a frame. Raises RingError for a picture of another size or kind; nothing is published then."""
        k = self.form.intrinsics
        if frame.depth.shape != (k.height, k.width) or frame.depth.dtype != np.uint16:
            raise RingError(
                f"camera {self.form.camera}: depth {frame.depth.shape} {frame.depth.dtype}, "
                f"expected {(k.height, k.width)} uint16"
            )
        if self.form.colour and (
            frame.colour is None or frame.colour.shape != (k.height, k.width, 3) or frame.colour.dtype != np.uint8
        ):
            raise RingError(f"camera {self.form.camera}: expected colour {(k.height, k.width, 3)} uint8")
        views, count = self._views, self._count + 1
        slot = count % SLOTS
        views.marks[slot][0] = 2 * count - 1
        _fence()
        views.depths[slot][:] = frame.depth
        if self.form.colour and frame.colour is not None:
            views.colours[slot][:] = frame.colour
        # A camera that was plugged in again begins a new life in the same process.
        boot = max(self.boot, frame.boot)
        meta = _META.pack(count, boot, frame.seq, frame.exposure, frame.exposure_time, frame.hardware, now)
        at = views.metas[slot]
        views.memory[at : at + _META.size + 4] = meta + struct.pack("<I", zlib.crc32(meta))
        _fence()
        views.marks[slot][0] = 2 * count
        _fence()
        views.count[0] = count
        self._count = count

    def close(self) -> None:
        """Remove the segment. Idempotent."""
        if self._handle < 0:
            return
        self._views.close()
        self.path.unlink(missing_ok=True)
        os.close(self._handle)
        # The lock's file stays: removed, it could be locked twice.
        os.close(self._guard)
        self._handle = -1


class RingReader:
    """A reader's end; any number of them. Attaches when the writer is there, and again to a new life of it."""

    def __init__(self, folder: Path, form: RingFormat, colour: bool = True) -> None:
        """`colour`: take the colours too, if the ring has any; copying them costs more than depth."""
        self.path = folder / f"{form.camera}{SUFFIX}"
        self.form = form
        self._colour = colour and form.colour
        self.fault = "no camera process has made a ring yet"
        """Why nothing can be read; empty when attached."""
        self.torn = 0
        """Frames that were overwritten while they were copied, or whose check failed."""
        self.written = -math.inf
        """When the newest frame was written, s; tells a dead writer by its age."""
        self._views: _Views | None = None
        self._identity = (-1, -1)
        self._boot = 0
        self._count = 0
        self._look_at = -math.inf
        k = form.intrinsics
        # Frames that were handed out last stay as they are while the next one is copied.
        self._depths = [np.zeros((k.height, k.width), np.uint16) for _ in range(SLOTS)]
        self._colours = [np.zeros((k.height, k.width, 3), np.uint8) for _ in range(SLOTS)] if self._colour else []
        self._turn = 0

    def take(self, now: float) -> Frame | None:
        """Return the newest frame that was not taken yet, or None. Its pictures hold until three more were taken."""
        frame = self._newest() if self._views is not None else None
        if frame is None and not 0.0 <= now - self._look_at < LOOK_AGAIN:
            self._look_at = now
            self._attach()
            frame = self._newest() if self._views is not None else None
        return frame

    def _attach(self) -> None:
        """Map the segment if there is one that is not mapped yet."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            if self._views is None:
                self.fault = "no camera process has made a ring yet"
            return
        try:
            about = os.fstat(handle)
            identity = (about.st_dev, about.st_ino)
            if self._views is not None and identity == self._identity:
                return
            if about.st_uid != os.geteuid():
                raise RingError(f"{self.path} belongs to somebody else")
            boot = self.form.check(os.pread(handle, _HEAD.size + 4, 0))
            if about.st_size != self.form.size:
                raise RingError(f"camera {self.form.camera}: the ring has {about.st_size} bytes, not {self.form.size}")
            if boot <= self._boot:
                raise RingError(f"camera {self.form.camera}: a ring of an earlier life")
            self.detach()
            self._views, self._identity, self._boot, self._count = _Views(handle, self.form, False), identity, boot, 0
            self.fault = ""
        except (RingError, OSError, ValueError) as error:
            # Whatever is mapped stays: its silence tells.
            self.fault = str(error)
        finally:
            os.close(handle)

    def _newest(self) -> Frame | None:
        views = self._views
        assert views is not None
        for _ in range(TRIES):
            count = int(views.count[0])
            if count <= self._count:
                return None
            _fence()
            slot = count % SLOTS
            if int(views.marks[slot][0]) != 2 * count:
                continue
            found = self._copy(views, slot, count)
            _fence()
            if found is not None and int(views.marks[slot][0]) == 2 * count:
                self._count = count
                self._turn = (self._turn + 1) % SLOTS
                frame, self.written = found
                return frame
        self.torn += 1
        return None

    def _copy(self, views: _Views, slot: int, count: int) -> tuple[Frame, float] | None:
        turn, at = self._turn, views.metas[slot]
        meta = views.memory[at : at + _META.size + 4]
        if struct.unpack_from("<I", meta, _META.size)[0] != zlib.crc32(meta[: _META.size]):
            return None
        said, boot, seq, exposure, exposure_time, hardware, written = _META.unpack_from(meta)
        if said != count:
            return None
        depth = self._depths[turn]
        np.copyto(depth, views.depths[slot])
        colour: NDArray[np.uint8] | None = None
        if self._colour:
            colour = self._colours[turn]
            np.copyto(colour, views.colours[slot])
        return Frame(self.form.camera, seq, exposure, depth, colour, boot, exposure_time, hardware), written

    def detach(self) -> None:
        """Let the segment go. Idempotent."""
        if self._views is not None:
            self._views.close()
            self._views = None


def ring_folder(session: str) -> Path:
    """Where the rings of a session are: in memory if the system has a file system there. `session`: the path of its
    sockets' folder, whose last part no other session has."""
    memory = Path("/dev/shm")
    here = Path(session)
    return memory / here.name if os.access(memory, os.W_OK | os.X_OK) else here


def clear_away(parent: Path, prefix: str, now: float) -> list[Path]:
    """Remove folders `prefix*` of this user in `parent` that killed cells left behind: no segment in them has a living
    writer. `now`: wall clock, s. Returns what was removed."""
    removed = []
    for folder in sorted(parent.glob(f"{prefix}*")):
        try:
            about = folder.lstat()
            mine = about.st_uid == os.geteuid() and folder.is_dir() and not folder.is_symlink()
            if mine and now - about.st_mtime > FORGOTTEN and _only_dead_rings(folder):
                shutil.rmtree(folder)
                removed.append(folder)
        except OSError:
            continue
    return removed


def _only_dead_rings(folder: Path) -> bool:
    locks = list(folder.glob("*.lock"))
    others = [p for p in folder.iterdir() if p.suffix not in (".lock", ".new", SUFFIX)]
    return bool(locks) and not others and all(_free(lock) for lock in locks)


def _free(lock: Path) -> bool:
    handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
