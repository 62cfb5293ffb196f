"""`cell camera list` and `cell camera info`."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from cell.config import LoadedCell, installed, load_cell
from cell.exits import BAD_INPUT, FAILED, OK
from cell.yamlfile import FileErrors
from perception.cameras.files import Recording, RecordingError, Summary, open_recording
from perception.contract import CameraError, CameraInfo, Frame

SUFFIXES = (".mcap", ".bag", ".db3")


@dataclass(frozen=True)
class Device:
    """A RealSense that is plugged in."""

    serial: str
    name: str
    firmware: str
    usb: str
    port: str


def show_cameras(cell_file: Path | None, as_json: bool) -> int:
    """Print what there is; return the exit code."""
    try:
        cell = load_cell(cell_file)
    except FileErrors as caught:
        for problem in caught.errors:
            print(problem, file=sys.stderr)
        return BAD_INPUT
    mine = [_entry(camera.name, cell) for camera in cell.config.cameras]
    devices, trouble = _plugged()
    drivers = installed("cell.cameras")
    if as_json:
        found = {"cell": str(cell.path), "cameras": mine, "plugged_in": [asdict(d) for d in devices]}
        print(json.dumps(found | {"trouble": trouble, "drivers": drivers}, indent=2))
        return OK
    print(f"cameras of {cell.path}:")
    for entry in mine:
        print(f"  {entry['name']:<12} {entry['driver']:<10} {entry['what']}")
    print("plugged in:" if devices else f"plugged in: none{f' ({trouble})' if trouble else ''}")
    for d in devices:
        print(f"  {d.serial:<14} {d.name}, firmware {d.firmware}, USB {d.usb}, at {d.port}")
    print(f"drivers: {', '.join(drivers) or 'none'}")
    return OK


def _entry(name: str, cell: LoadedCell) -> dict[str, str]:
    from cell.nodes import camera_options
    from cell.session import SessionError, entry_point

    driver, options = camera_options(name, cell, 0)
    try:
        info: CameraInfo = entry_point("cell.cameras", driver).describe(name, options)
        k = info.intrinsics
        what = f"{info.model}, {k.width}x{k.height}@{info.rate:g}{', colour' if info.colour else ''}"
    except (CameraError, SessionError) as error:
        what = f"cannot be used: {error}"
    return {"name": name, "driver": driver, "what": what}


def _plugged() -> tuple[list[Device], str]:
    """RealSense cameras on the bus, and why none can be listed."""
    try:
        from perception.cameras.realsense_link import connected, library

        rs = library()
        kinds = rs.camera_info
        return [
            Device(
                *(
                    d.get_info(kind) if d.supports(kind) else "?"
                    for kind in (
                        kinds.serial_number,
                        kinds.name,
                        kinds.firmware_version,
                        kinds.usb_type_descriptor,
                        kinds.physical_port,
                    )
                )
            )
            for d in connected()()
        ], ""
    except (CameraError, RuntimeError) as error:
        return [], str(error)


def show_info(what: str, size: str, as_json: bool) -> int:
    """Print what is in a recording, or the figures of a camera; return the exit code: 1 for a damaged recording."""
    try:
        if Path(what).suffix.lower() in SUFFIXES or Path(what).exists():
            return _show_recording(Path(what), as_json)
        return _show_device(what, size, as_json)
    except (RecordingError, CameraError) as error:
        print(f"cell camera info: {error}", file=sys.stderr)
        return BAD_INPUT


def _show_recording(path: Path, as_json: bool) -> int:
    recording = open_recording(path)
    rows, damage = [], ""
    for info in recording.cameras:
        summary, damage = _summarised(recording, info, quiet=as_json)
        rows.append({"info": msgspec.to_builtins(info), **summary._asdict()})
        if damage:
            break
    recording.close()
    if as_json:
        print(json.dumps({"file": str(path), "cameras": rows, "damage": damage}, indent=2))
    else:
        _print_recording(path, rows)
    if damage:
        print(f"cell camera info: {damage}", file=sys.stderr)
    return FAILED if damage else OK


def _summarised(recording: Recording, info: CameraInfo, quiet: bool) -> tuple[Summary, str]:
    """Read through a camera's frames; what comes before a damage counts."""
    from rich.console import Console

    from perception.cameras.files import summarise

    damage: list[str] = []

    def frames(status: Any) -> Any:
        source = recording.frames(info.name)
        count = 0
        while True:
            frame: Frame | None
            try:
                frame = next(source, None)
            except RecordingError as error:
                damage.append(str(error))
                return
            if frame is None:
                return
            count += 1
            if count % 50 == 0:
                status.update(f"{info.name}: {count} frames")
            yield frame

    console = Console(stderr=True, quiet=quiet)
    with console.status(f"reading {info.name}") as status:
        summary = summarise(frames(status), info.name)
    return summary, damage[0] if damage else ""


def _print_recording(path: Path, rows: list[dict[str, Any]]) -> None:
    print(f"{path}, {path.stat().st_size / 1e6:.1f} MB")
    for row in rows:
        k = row["info"]["intrinsics"]
        rate = (row["frames"] - 1) / row["seconds"] if row["seconds"] > 0 else 0.0
        print(
            f"  {row['camera']}: {row['info']['model']}, {k['width']}x{k['height']}"
            f"{' with colour' if row['info']['colour'] else ''}, fx {k['fx']:.2f} fy {k['fy']:.2f} "
            f"cx {k['cx']:.2f} cy {k['cy']:.2f}"
        )
        print(
            f"  {row['frames']} frames in {row['seconds']:.2f} s ({rate:.1f} Hz), {row['dropped']} dropped, "
            f"longest gap {1e3 * row['longest_gap']:.0f} ms"
        )


def _show_device(serial: str, size: str, as_json: bool) -> int:
    from perception.cameras.realsense_link import connected, find, library

    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})@(\d{1,2})", size)
    if match is None:
        raise CameraError(f"--size {size}: write it as 848x480@30")
    width, height, rate = (int(text) for text in match.groups())
    figures = lens_figures(find(connected()(), serial), (width, height, rate), library())
    options = {"serial": serial, "width": width, "height": height, "rate_hz": rate, **figures}
    if as_json:
        print(json.dumps(options, indent=2))
    else:
        print("options: {" + ", ".join(f"{name}: {value}" for name, value in options.items()) + "}")
    return OK


def lens_figures(device: Any, size: tuple[int, int, int], rs: Any) -> dict[str, Any]:
    """What the cell file must say of a camera's lens and model. Raises CameraError without such a profile."""
    from perception.cameras.realsense import BASELINE

    name = device.get_info(rs.camera_info.name)
    for sensor in device.query_sensors():
        for profile in sensor.get_stream_profiles():
            if profile.stream_type() != rs.stream.depth or profile.format() != rs.format.z16:
                continue
            video = profile.as_video_stream_profile()
            if (video.width(), video.height(), profile.fps()) == size:
                k = video.get_intrinsics()
                model = next((m for m in BASELINE if m in name), name)
                lens = {"fx": k.fx, "fy": k.fy, "cx": k.ppx, "cy": k.ppy}
                return {"model": model, **{field: round(value, 4) for field, value in lens.items()}}
    raise CameraError(f"{name} has no depth of {size[0]}x{size[1]}@{size[2]}")
