"""Reads point clouds in the PCD format, version 0.7: ascii, binary and binary_compressed (LZF)."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
MOST_POINTS = 50_000_000
LONGEST_HEADER = 10_000
_TYPES = {("F", 4): "f4", ("F", 8): "f8", ("U", 1): "u1", ("U", 2): "u2", ("U", 4): "u4", ("U", 8): "u8",
          ("I", 1): "i1", ("I", 2): "i2", ("I", 4): "i4", ("I", 8): "i8"}  # fmt: skip


class _Header(NamedTuple):
    fields: list[str]
    dtype: np.dtype[np.void]
    counts: list[int]
    width: int
    height: int
    points: int
    kind: str


def read_pcd(raw: bytes) -> tuple[F64, int, int]:
    """Return the points (n, 3) in m, and the cloud's width and height (height 1: not organised). Raises ValueError."""
    header, start = _header(raw)
    body = raw[start:]
    if header.kind == "ascii":
        points = _ascii(header, body)
    elif header.kind == "binary":
        points = _rows(header, body)
    else:
        points = _columns(header, _inflated(body))
    return points, header.width, header.height


def _header(raw: bytes) -> tuple[_Header, int]:
    entries: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in entries:
        end = raw.find(b"\n", at, at + LONGEST_HEADER)
        if end < 0 or at > LONGEST_HEADER:
            raise ValueError("no PCD header: the line DATA is missing")
        words = raw[at:end].decode("ascii", "replace").split()
        at = end + 1
        if words and not words[0].startswith("#"):
            entries[words[0]] = words[1:]
    try:
        fields = entries["FIELDS"]
        sizes, kinds = [int(v) for v in entries["SIZE"]], entries["TYPE"]
        counts = [int(v) for v in entries.get("COUNT", ["1"] * len(fields))]
        width, height = int(entries["WIDTH"][0]), int(entries["HEIGHT"][0])
        points = int(entries.get("POINTS", [str(width * height)])[0])
        kind = entries["DATA"][0]
        columns = [
            (f"{n}:{name}", _TYPES[(k, s)], (c,))
            for n, (name, s, k, c) in enumerate(zip(fields, sizes, kinds, counts, strict=True))
        ]
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"damaged PCD header: {error}") from None
    if kind not in ("ascii", "binary", "binary_compressed"):
        raise ValueError(f"PCD data {kind!r}: ascii, binary or binary_compressed")
    missing = [axis for axis in "xyz" if axis not in fields]
    if missing:
        raise ValueError(f"the cloud has no field {', '.join(missing)}")
    if not 0 < points <= MOST_POINTS or points != width * height or min(counts) < 1 or max(counts) > 4096:
        raise ValueError(f"PCD header: {width} x {height} is not {points} points, or out of range")
    return _Header(fields, np.dtype(columns), counts, width, height, points, kind), at


def _ascii(header: _Header, body: bytes) -> F64:
    values = np.array(body.split(), dtype=np.float64) if body.strip() else np.zeros(0)
    columns = sum(header.counts)
    if len(values) < header.points * columns:
        raise ValueError(f"PCD breaks off: {len(values) // columns} of {header.points} points")
    table = values[: header.points * columns].reshape(header.points, columns)
    places = [sum(header.counts[: header.fields.index(axis)]) for axis in "xyz"]
    return table[:, places]


def _rows(header: _Header, body: bytes) -> F64:
    size = header.dtype.itemsize
    if len(body) < size * header.points:
        raise ValueError(f"PCD breaks off: {len(body) // size} of {header.points} points")
    table = np.frombuffer(body, header.dtype, header.points)
    return np.stack([_column(header, table, axis) for axis in "xyz"], axis=1)


def _column(header: _Header, table: NDArray[np.void], axis: str) -> F64:
    return np.asarray(table[f"{header.fields.index(axis)}:{axis}"][:, 0], np.float64)


def _columns(header: _Header, body: bytes) -> F64:
    """Compressed clouds hold one field after the other."""
    assert header.dtype.names is not None
    if len(body) != header.dtype.itemsize * header.points:
        raise ValueError(f"PCD breaks off: {len(body)} of {header.dtype.itemsize * header.points} bytes")
    found, at = {}, 0
    for field, name, count in zip(header.fields, header.dtype.names, header.counts, strict=True):
        kind = header.dtype[name].base
        if field in "xyz":
            column = np.frombuffer(body, kind, header.points * count, at)
            found[field] = column.reshape(header.points, count)[:, 0].astype(np.float64)
        at += kind.itemsize * count * header.points
    return np.stack([found[axis] for axis in "xyz"], axis=1)


def _inflated(body: bytes) -> bytes:
    """LZF: literals of up to 32 bytes, and references of 3 to 264 bytes up to 8 kB back."""
    if len(body) < 8:
        raise ValueError("PCD breaks off: no sizes before the compressed points")
    packed_size, size = struct.unpack_from("<II", body)
    data = body[8 : 8 + packed_size]
    if len(data) != packed_size or size > 64 * MOST_POINTS:
        raise ValueError(f"PCD breaks off: {len(data)} of {packed_size} compressed bytes")
    out = bytearray()
    at = 0
    try:
        while at < len(data) and len(out) <= size:
            control = data[at]
            at += 1
            if control < 32:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            start = len(out) - ((control & 0x1F) << 8) - data[at] - 1
            at += 1
            if start < 0:
                raise ValueError("damaged compressed points")
            # The reference may reach into what it is just writing.
            for n in range(length + 2):
                out.append(out[start + n])
    except IndexError:
        raise ValueError("PCD breaks off within its compressed points") from None
    if len(out) != size:
        raise ValueError(f"damaged compressed points: {len(out)} bytes instead of {size}")
    return bytes(out)
