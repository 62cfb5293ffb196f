"""`cell doctor`: what is there, what is missing, what to do about it."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from cell.exits import FAILED, OK

NEEDED = {
    "numpy": "numpy",
    "numba": "numba",
    "pin": "pinocchio",
    "coal": "coal",
    "pydantic": "pydantic",
    "msgspec": "msgspec",
    "pyzmq": "zmq",
    "transitions": "transitions",
    "ruckig": "ruckig",
    "mcap": "mcap",
    "ruamel.yaml": "ruamel.yaml",
    "scipy": "scipy",
}
OPTIONAL = {
    "pybullet": ("pybullet", "the digital twin"),
    "moderngl": ("moderngl", "the twin's cameras with colour; PyBullet's renderer is used without"),
    "pyrealsense2": ("pyrealsense2", "Intel RealSense cameras"),
    "mediapipe": ("mediapipe", "skeletons of people for the pendant"),
    "matplotlib": ("matplotlib", "timelines"),
}
INSTALL = "run `make setup`"


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    level: Literal["ok", "note", "missing"]
    """`missing` keeps the cell from running; `note` only limits it."""
    what: str
    found: str
    remedy: str = ""


def libraries() -> Iterator[Finding]:
    """Python and its packages, each really imported."""
    good = sys.version_info >= (3, 11)
    remedy = "" if good else "install Python 3.11 or newer"
    yield Finding("ok" if good else "missing", "Python", sys.version.split()[0], remedy)
    for package, module in NEEDED.items():
        yield _library(package, module, "missing", "")
    for package, (module, purpose) in OPTIONAL.items():
        yield _library(package, module, "note", purpose)


def _library(package: str, module: str, level: Literal["note", "missing"], purpose: str) -> Finding:
    try:
        found = version(package)
    except PackageNotFoundError:
        return Finding(level, package, f"not installed{': ' + purpose if purpose else ''}", INSTALL)
    try:
        _quietly(lambda: import_module(module))
    except (ImportError, OSError, RuntimeError) as error:
        return Finding(level, package, f"{found} does not load: {str(error)[:120]}", f"{INSTALL}; system libraries too")
    return Finding("ok", package, found)


def _quietly(action: Callable[[], object]) -> None:
    """Some libraries greet on stdout from C."""
    sys.stdout.flush()
    saved, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        action()
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(saved, 1)
        os.close(saved)
        os.close(null)


def rendering() -> Iterator[Finding]:
    """A standalone EGL context, as the twin's cameras open it for colour; depth alone needs none."""
    remedy = (
        "apt-get install libegl1 libgles2 libgl1 libgl1-mesa-dri; without it PyBullet's slower renderer draws colour"
    )
    try:
        import moderngl

        context = moderngl.create_context(standalone=True, backend="egl")  # type: ignore[arg-type]  # the stub knows no backend names
        renderer = str(context.info.get("GL_RENDERER", "?"))
        context.release()
    except ImportError:
        yield Finding("note", "EGL", "moderngl is missing", INSTALL)
    except Exception as error:  # moderngl raises plain Exception for a missing library or device
        yield Finding("note", "EGL", f"no context: {str(error)[:120]}", remedy)
    else:
        yield Finding("ok", "EGL", renderer)


def scheduling() -> Iterator[Finding]:
    """Rights that a live cell profits from."""
    cores = len(os.sched_getaffinity(0))
    enough = cores >= 2
    yield Finding("ok" if enough else "note", "cores", str(cores), "" if enough else "a live cell wants 2 or more")
    soft, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    allowed = os.geteuid() == 0 or soft > 0
    text = "permitted" if allowed else "not permitted"
    hint = "" if allowed else "add `@users - rtprio 80` to /etc/security/limits.conf and log in again"
    yield Finding("ok" if allowed else "note", "SCHED_FIFO", text, hint)
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    roomy = free > 1.0
    yield Finding("ok" if roomy else "note", "disk", f"{free:.1f} GB free", "" if roomy else "recordings need space")


def cameras() -> Iterator[Finding]:
    """RealSense cameras on the bus, without opening any."""
    if ctypes.util.find_library("usb-1.0") is None:
        yield Finding("note", "RealSense", "libusb-1.0 is missing", "apt-get install libusb-1.0-0")
        return
    try:
        import pyrealsense2 as rs

        names = [d.get_info(rs.camera_info.name) for d in rs.context().query_devices()]
    except ImportError:
        yield Finding("note", "RealSense", "pyrealsense2 is missing", INSTALL)
        return
    except RuntimeError as error:
        yield Finding("note", "RealSense", str(error)[:120], "plug the camera in again; check the udev rules")
        return
    yield Finding("ok" if names else "note", "RealSense", ", ".join(names) or "none connected; the twin needs none")


def models(cell_file: Path | None) -> Iterator[Finding]:
    """The cell file, its arm, its safety file and its recipes."""
    from cell.config import load_cell
    from cell.yamlfile import FileErrors

    try:
        cell = load_cell(cell_file)
    except FileErrors as caught:
        for error in caught.errors:
            yield Finding("missing", "cell file", str(error), "mend the file")
        return
    yield Finding("ok", "cell file", f"{cell.config.cell} ({cell.path})")
    model = cell.model()
    yield Finding("ok", "arm", f"{model.name}, {model.dof} joints, {model.urdf_path}")
    there = cell.safety_path.is_file()
    remedy = "" if there else "a cell does not start without one"
    yield Finding("ok" if there else "missing", "safety file", str(cell.safety_path), remedy)
    recipes = sorted(p.stem for p in cell.recipes_path.glob("*.yaml"))
    yield Finding("ok" if recipes else "note", "recipes", ", ".join(recipes) or f"none in {cell.recipes_path}")


def skeletons(cell_file: Path | None) -> Iterator[Finding]:
    """Whether people can be recognised by their skeletons, and whether the cell asks for it."""
    from cell.config import load_cell
    from cell.yamlfile import FileErrors
    from perception.pose import PoseError, model_path, read_model

    try:
        read_model(model_path())
    except PoseError as error:
        text, _, remedy = str(error).partition(": ")
        text += "; nobody is recognised by a skeleton, which loosens nothing"
        yield Finding(
            "note", "pose model", f"{text}; nobody is recognised by a skeleton, which loosens nothing", remedy
        )
    else:
        yield Finding("ok", "pose model", str(model_path()))
    try:
        config = load_cell(cell_file).config
    except FileErrors:
        return
    coloured = [camera.name for camera in config.cameras if camera.options.get("colour") is True]
    if not config.people.skeletons:
        yield Finding("ok", "skeletons", "not asked for (people.skeletons in the cell file)")
    elif coloured:
        yield Finding("ok", "skeletons", f"looked for in the colours of {', '.join(coloured)}")
    else:
        remedy = "set `colour: true` in the options of a camera"
        yield Finding("note", "skeletons", "asked for, but no camera says `colour: true`", remedy)


def examine(cell_file: Path | None, as_json: bool) -> int:
    """Look at everything and print it; return the exit code: 1 if something needed is missing."""
    findings = [*libraries(), *rendering(), *scheduling(), *cameras()]
    # The rest of the cell cannot be imported without its libraries.
    if not any(f.level == "missing" for f in findings):
        findings += [*models(cell_file), *skeletons(cell_file)]
    missing = [f for f in findings if f.level == "missing"]
    if as_json:
        print(json.dumps({"ok": not missing, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        _print(findings, len(missing))
    return FAILED if missing else OK


def _print(findings: list[Finding], missing: int) -> None:
    marks = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}
    for finding in findings:
        print(f"{marks[finding.level]}  {finding.what:<14} {finding.found}")
        if finding.remedy:
            print(f"{'':25}-> {finding.remedy}")
    print(f"{missing} missing" if missing else "everything needed is there")
