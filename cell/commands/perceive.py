"""`cell perceive`: what perception makes of pictures in files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from perception.contract import Intrinsics
    from perception.objects import Segmented
    from perception.pose import Person

Pinhole = tuple[float | None, float | None, float | None, float | None]
"""fx, fy, cx, cy as they were given."""
PERSON_LEAST, PERSON_MOST = 0.2, 2.6
"""Longest edge of an object that may be, or hold, a person, m."""
SHOWN = 12
"""Objects in the table."""


class PerceiveError(Exception):
    """Arguments or files that cannot be used; the text says which and why."""


app = typer.Typer(invoke_without_command=True, help="Find objects and people in a picture, or measure how small.")


@app.callback()
def perceive(
    context: typer.Context,
    depth: Annotated[
        Path | None,
        typer.Option("--depth", metavar="FILE", help="16-bit PNG in mm, NPY (uint16 mm or float m), PCD."),
    ] = None,
    rgb: Annotated[
        Path | None, typer.Option("--rgb", metavar="FILE", help="Colour of the same view: finds people by skeletons.")
    ] = None,
    fx: Annotated[float | None, typer.Option("--fx", metavar="PX", help="Focal length, horizontal.")] = None,
    fy: Annotated[float | None, typer.Option("--fy", metavar="PX", help="The same, vertical; left out: fx.")] = None,
    cx: Annotated[float | None, typer.Option("--cx", metavar="PX", help="Principal point, column.")] = None,
    cy: Annotated[float | None, typer.Option("--cy", metavar="PX", help="Principal point, row.")] = None,
    background: Annotated[
        Path | None,
        typer.Option("--background", metavar="FILE", help="Depth of the empty scene, same camera."),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="No background: everything seen is an object.")] = False,
    png: Annotated[
        Path | None,
        typer.Option(
            "--png", metavar="FILE", help="Annotated picture; left out: beside the input. Of a recording: a folder."
        ),
    ] = None,
    recording: Annotated[
        Path | None, typer.Option("--recording", metavar="FILE", help="All of a .mcap, .bag or .db3, over time.")
    ] = None,
    camera: Annotated[str, typer.Option("--camera", metavar="NAME", help="Which one of the recording's.")] = "",
    every: Annotated[int, typer.Option("--every", metavar="N", min=1, help="Each Nth frame of the recording.")] = 1,
    people: Annotated[bool, typer.Option("--people/--no-people", help="Look for skeletons in its colour.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="JSON; of a recording one line a frame.")] = False,
) -> None:
    """Find objects and people in one depth picture, with or without colour, or in each frame of a recording.

    Objects are everything that is not background, split at steps in depth. People are objects with a skeleton, which
    needs colour. Positions are in the camera frame: x right, y down, z forward, metres. Pixels without depth are
    unknown, never free.

    \b
    Examples:
      cell perceive --depth person.png --fx 525 --fy 525 --cx 319.5 --cy 239.5 --none
      cell perceive --depth now.npy --background empty.npy --fx 430 --cx 424 --cy 240 --json
      cell perceive --recording visit.mcap --camera front --every 15 --png pictures
    """
    from cell.exits import BAD_INPUT, OK

    if context.invoked_subcommand is not None:
        return
    if recording is not None:
        from cell.commands.perceive_recording import perceive_recording

        if depth is not None or rgb is not None or any(v is not None for v in (fx, fy, cx, cy)):
            print("cell perceive: --recording brings depth, colour and figures of its own", file=sys.stderr)
            raise typer.Exit(BAD_INPUT)
        raise typer.Exit(perceive_recording(recording, camera, background, none, every, png, people, as_json))
    try:
        result, picture = _perceived(depth, rgb, (fx, fy, cx, cy), background, none)
        target = png or _beside(depth or rgb)
        picture.save(target)
    except (PerceiveError, OSError) as error:
        print(f"cell perceive: {error}", file=sys.stderr)
        raise typer.Exit(BAD_INPUT) from None
    result["picture"] = str(target)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        _print(result)
    raise typer.Exit(OK)


@app.command()
def capability(
    cell: Annotated[
        Path | None, typer.Option("--cell", metavar="FILE", help="Cell with a twin; left out: demo.")
    ] = None,
    places: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Places for each size and distance.")] = 20,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of places and noise.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """How small a thing do the cameras never miss? The twin puts cylinders before them.

    Cylinders of 14, 30, 40, 55, 70 and 100 mm, 300 mm long, in random places and directions, still and at 1.6 m/s, with
    the cameras' noise. The smallest never missed in a class of distance is the detection capability d there. Exit code
    1 if the safety configuration claims a smaller d than was measured anywhere.

    Example: cell perceive capability --places 40
    """
    from cell.commands.capability import show_capability

    raise typer.Exit(show_capability(cell, places, seed, as_json))


@app.command()
def detection(
    cell: Annotated[
        Path | None, typer.Option("--cell", metavar="FILE", help="Cell with a twin; left out: demo.")
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Places for each target.")] = 40,
    poses: Annotated[str, typer.Option(metavar="A,B", help="Only these targets; left out: all.")] = "",
    model: Annotated[
        str, typer.Option("--camera-model", metavar="MAKE", help="D435 or D455 at 848x480 instead of the cell's.")
    ] = "",
    replay: Annotated[
        int, typer.Option(metavar="N", min=0, max=10_000_000, help="Moments of noise over the empty cell.")
    ] = 240,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Map of the layer in which nothing can be told.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Are people ever overlooked? The twin puts people, limbs and hands before the cameras.

    For each target: frames, frames in which it was missed, most of them in a row, and by how much the reported distance
    from the arm exceeded the true one. Exit code 1 if a body or a 70 mm limb was missed, a hand twice in a row, or a
    distance was larger than depth noise and bias allow.

    Example: cell perceive detection --camera-model D435 --seeds 10 --poses lying,hand
    """
    from cell.commands.detection import show_detection

    raise typer.Exit(show_detection(cell, seeds, poses, model, replay, png, as_json))


@app.command()
def skeletons(
    cell: Annotated[
        Path | None, typer.Option("--cell", metavar="FILE", help="Cell with a twin; left out: demo.")
    ] = None,
    poses: Annotated[int, typer.Option(metavar="N", min=0, max=1000, help="People, each at 2 to 4 m.")] = 20,
    alone: Annotated[int, typer.Option(metavar="N", min=0, max=10_000, help="Pictures of the robot alone.")] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Are people found by their skeletons, and is a robot ever taken for one? The twin draws both.

    Exit code 1 if fewer than 95 % of the people were found, the median error of a joint is above 50 mm, or a picture of
    the robot alone gave a person. Needs the pose model (`make setup`) and EGL.

    Example: cell perceive skeletons --poses 4 --alone 20
    """
    from cell.commands.skeletons import show_skeletons

    raise typer.Exit(show_skeletons(cell, poses, alone, as_json))


@app.command()
def soak(
    cell: Annotated[
        Path | None, typer.Option("--cell", metavar="FILE", help="Cell with a twin; left out: demo.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(metavar="MIN", min=0.0, max=10_000.0, help="Simulated minutes of work with nobody there.")
    ] = 15.0,
    pictures: Annotated[
        int, typer.Option(metavar="N", min=0, max=1_000_000_000, help="Pictures of fresh noise over true depth.")
    ] = 100_000,
    model: Annotated[
        str, typer.Option("--camera-model", metavar="MAKE", help="D435 or D455 at 848x480 instead of the cell's.")
    ] = "",
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of noise and run.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Does the robot ever stop for nobody? The empty cell works for a long time, with all noise of the cameras.

    First the whole chain in lock-step; then fresh noise over true pictures of half a minute of that work, each through
    the classification that live pictures pass, with the hours these make and the upper bound (95 %) of the rate of
    false pictures. Exit code 1 if anything was taken for a person, or the arm stood.

    Example: cell perceive soak --minutes 2 --pictures 20000 --camera-model D435
    """
    from cell.commands.soak import show_soak

    raise typer.Exit(show_soak(cell, minutes, pictures, model, seed, as_json))


def _beside(source: Path | None) -> Path:
    assert source is not None
    return source.with_name(f"{source.stem}-perceived.png")


def _perceived(
    depth: Path | None,
    rgb: Path | None,
    pinhole: Pinhole,
    background: Path | None,
    none: bool,
) -> tuple[dict[str, Any], Any]:
    """The result as plain data, and the annotated picture. Raises PerceiveError."""
    if depth is None and rgb is None:
        raise PerceiveError("give --depth FILE, --rgb FILE or both")
    if background is not None and none:
        raise PerceiveError("--background and --none exclude each other")
    if depth is None:
        if background is not None or any(v is not None for v in pinhole):
            raise PerceiveError("--background, --fx, --fy, --cx and --cy belong to --depth, which is missing")
        return _colour_only(rgb)
    from perception.depthfile import DepthFileError, read_depth
    from perception.objects import segment

    lens = _pinhole(pinhole)
    try:
        picture, camera = read_depth(depth, *lens)
        empty = read_depth(background, *lens)[0] if background is not None else None
        found = segment(picture, camera, empty)
    except (DepthFileError, ValueError) as error:
        raise PerceiveError(str(error)) from None
    if not picture.any():
        raise PerceiveError(f"{depth}: no pixel has a depth: all of it is unknown, nothing can be said to be free")
    colour = _colour(rgb, (camera.width, camera.height)) if rgb is not None else None
    people = _people(colour, picture, camera, found) if colour is not None else []
    result = figures(found, people) | {"frame": "camera: x right, y down, z forward, m"}
    return result, _drawn(picture, colour, found, people)


def figures(found: Segmented, people: list[Person]) -> dict[str, Any]:
    """What was found in one picture, as plain data."""
    return {
        "points": found.points,
        "invalid": found.invalid,
        "nearest_m": rounded(found.nearest),
        "objects": [
            {
                "position": rounded(thing.position),
                "extent": rounded(thing.extent),
                "distance": rounded(thing.distance),
                "nearest": rounded(thing.nearest),
                "points": thing.points,
            }
            for thing in found.things
        ],
        "people": [plain(person) for person in people],
        "scatter": found.points - sum(thing.points for thing in found.things),
    }


def _pinhole(
    values: tuple[float | None, float | None, float | None, float | None],
) -> tuple[float, float, float, float]:
    fx, fy, cx, cy = values
    fy = fx if fy is None else fy
    missing = [name for name, value in (("--fx", fx), ("--cx", cx), ("--cy", cy)) if value is None]
    if missing or fx is None or fy is None or cx is None or cy is None:
        raise PerceiveError(
            f"{', '.join(missing)} missing: depth in pixels needs the camera's figures to become metres"
        )
    return fx, fy, cx, cy


def _colour_only(rgb: Path | None) -> tuple[dict[str, Any], Any]:
    assert rgb is not None
    colour = _colour(rgb, None)
    people = _people(colour, None, None, None)
    result: dict[str, Any] = {"points": 0, "invalid": 0, "nearest_m": None, "objects": []}
    result |= {"people": [plain(person) for person in people], "scatter": 0, "frame": "pixels: no depth was given"}
    return result, _drawn(None, colour, None, people)


def _colour(path: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as picture:
            values = np.asarray(picture.convert("RGB"))
    except FileNotFoundError:
        raise PerceiveError(f"{path}: no such file") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise PerceiveError(f"{path}: no readable picture ({str(error)[:80]})") from None
    if size is not None and values.shape[1::-1] != size:
        raise PerceiveError(f"{path}: {values.shape[1]} x {values.shape[0]} px, the depth has {size[0]} x {size[1]}")
    return values


def _people(
    colour: NDArray[np.uint8],
    depth: NDArray[np.uint16] | None,
    camera: Intrinsics | None,
    found: Segmented | None,
) -> list[Person]:
    from perception.pose import PoseError, PoseFinder, library_silenced, widened

    boxes = [widened(box) for box in person_boxes(found)] if found is not None else []
    try:
        with library_silenced(), PoseFinder() as finder:
            return finder.find(colour, depth, camera, boxes)
    except PoseError as error:
        raise PerceiveError(str(error)) from None


def person_boxes(found: Segmented) -> list[tuple[int, int, int, int]]:
    """Boxes round the objects that may be, or hold, a person."""
    return [thing.box for thing in found.things if PERSON_LEAST <= max(thing.extent) <= PERSON_MOST]


def plain(person: Person) -> dict[str, Any]:
    """A person as plain data."""
    return {
        "position": rounded(person.position),
        "distance": rounded(person.distance),
        "skeleton": {
            name: {
                "pixel": rounded(joint.pixel),
                "position": rounded(joint.position),
                "visibility": rounded(joint.visibility),
            }
            for name, joint in person.skeleton.items()
        },
        "confidence": rounded(person.confidence),
    }


def rounded(value: Any) -> Any:
    """Numbers to four decimals; vectors as lists."""
    if value is None or isinstance(value, int):
        return value
    return round(value, 4) if isinstance(value, float) else [round(float(v), 4) for v in value]


def _drawn(
    depth: NDArray[np.uint16] | None,
    colour: NDArray[np.uint8] | None,
    found: Segmented | None,
    people: list[Person],
) -> Any:
    from perception.drawing import annotate

    return annotate(depth, colour, found, people)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    near = "nothing" if result["nearest_m"] is None else f"{result['nearest_m']:.2f} m"
    console.print(f"{result['points']} points, {result['invalid']} pixels unknown, nearest {near}", highlight=False)
    if result["objects"]:
        table = Table("object", "position x, y, z (m)", "extent (m)", "distance (m)", "points")
        for n, thing in enumerate(result["objects"][:SHOWN], start=1):
            place, size = (", ".join(f"{v:.2f}" for v in thing[key]) for key in ("position", "extent"))
            table.add_row(str(n), place, size, f"{thing['distance']:.2f}", str(thing["points"]))
        console.print(table)
    for n, person in enumerate(result["people"], start=1):
        where = "no depth" if person["distance"] is None else f"{person['distance']:.2f} m away"
        console.print(f"person {n}: {where}, confidence {person['confidence']:.2f}", highlight=False)
    console.print(f"picture: {result['picture']}", highlight=False, markup=False, soft_wrap=True)
