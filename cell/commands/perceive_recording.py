"""`cell perceive --recording`: what perception makes of each frame of a recording."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.commands.perceive import figures, person_boxes
from cell.exits import BAD_INPUT, OK
from perception.cameras.files import Recording, RecordingError, find_camera, open_recording
from perception.contract import CameraError, CameraInfo, Frame
from perception.depthfile import DepthFileError, read_depth
from perception.objects import Segmented, segment
from perception.pose import Person, PoseError, PoseFinder, library_silenced, widened


class _Seen(NamedTuple):
    frame: Frame
    found: Segmented
    people: list[Person]


def perceive_recording(
    path: Path,
    camera: str,
    background: Path | None,
    none: bool,
    every: int,
    pictures: Path | None,
    people: bool,
    as_json: bool,
) -> int:
    """Print one line a frame; return the exit code: 2 for input that cannot be used, or without any depth."""
    if background is not None and none:
        print("cell perceive: --background and --none exclude each other", file=sys.stderr)
        return BAD_INPUT
    recording = None
    try:
        recording = open_recording(path)
        info = find_camera(recording, camera)
        empty = _background(background, info)
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
        usable = _report(_seen(recording, info, empty, every, people and info.colour), info, pictures, as_json)
    except (RecordingError, CameraError, DepthFileError, PoseError, ValueError, OSError) as error:
        print(f"cell perceive: {error}", file=sys.stderr)
        return BAD_INPUT
    finally:
        if recording is not None:
            recording.close()
    if not usable:
        print(f"cell perceive: {path}: no frame with any depth: all of it is unknown, nothing is free", file=sys.stderr)
        return BAD_INPUT
    return OK


def _background(path: Path | None, info: CameraInfo) -> NDArray[np.uint16] | None:
    if path is None:
        return None
    k = info.intrinsics
    return read_depth(path, k.fx, k.fy, k.cx, k.cy)[0]


def _seen(
    recording: Recording, info: CameraInfo, empty: NDArray[np.uint16] | None, every: int, people: bool
) -> Iterator[_Seen]:
    with ExitStack() as stack:
        finder = None
        if people:
            with library_silenced():
                finder = stack.enter_context(PoseFinder())
        for frame in islice(recording.frames(info.name), 0, None, every):
            found = segment(frame.depth, info.intrinsics, empty)
            persons: list[Person] = []
            if finder is not None and frame.colour is not None:
                boxes = [widened(box) for box in person_boxes(found)]
                with library_silenced():
                    persons = finder.find(frame.colour, frame.depth, info.intrinsics, boxes)
            yield _Seen(frame, found, persons)


def _report(seen: Iterator[_Seen], info: CameraInfo, pictures: Path | None, as_json: bool) -> int:
    """Print as it comes; return how many frames had any depth."""
    if not as_json:
        print(f"{'time':>8}  {'frame':>7}  {'points':>7}  {'unknown':>7}  {'nearest':>8}  objects, people")
    begun, usable = None, 0
    for frame, found, people in seen:
        begun = frame.exposure if begun is None else begun
        known = bool(frame.depth.any())
        usable += known
        row: dict[str, Any] = {"t": round(frame.exposure - begun, 6), "seq": frame.seq, "camera": info.name}
        row |= figures(found, people) | {"unknown": not known}
        if pictures is not None:
            row["picture"] = str(_draw(frame, found, people, pictures))
        print(json.dumps(row, allow_nan=False) if as_json else _line(row), flush=True)
    return usable


def _draw(frame: Frame, found: Segmented, people: list[Person], folder: Path) -> Path:
    from perception.drawing import annotate

    target = folder / f"{frame.seq:06d}.png"
    annotate(frame.depth, frame.colour, found, people).save(target)
    return target


def _line(row: dict[str, Any]) -> str:
    near = "-" if row["nearest_m"] is None else f"{row['nearest_m']:.2f} m"
    things = ", ".join(f"{thing['distance']:.2f} m" for thing in row["objects"][:6]) or "none"
    if row["unknown"]:
        things = "all unknown"
    who = f"; {len(row['people'])} people" if row["people"] else ""
    return f"{row['t']:7.2f}s  {row['seq']:7d}  {row['points']:7d}  {row['invalid']:7d}  {near:>8}  {things}{who}"
