"""Pictures of what perception found: depth in colours, unknown pixels hatched, objects boxed, skeletons."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception.objects import Segmented
from perception.pose import BONES, SEEN, Person

U8 = NDArray[np.uint8]
UNKNOWN = (70, 70, 78)
HATCH = (105, 105, 115)
NEAR, FAR = (250, 222, 80), (38, 60, 130)
BOX, BONE, TEXT = (255, 90, 70), (70, 240, 140), (255, 255, 255)
SHOWN = 12
"""Objects that get a box."""


def shaded(depth: NDArray[np.uint16]) -> U8:
    """(h, w, 3) RGB: near is bright, far is dark, unknown is grey and hatched, so that it is not taken for far."""
    there = depth > 0
    out = np.empty((*depth.shape, 3), np.uint8)
    v, u = np.indices(depth.shape)
    out[:] = UNKNOWN
    out[np.asarray((u + v) % 8 < 2)] = HATCH
    if there.any():
        low, high = np.percentile(depth[there], [1, 99])
        share = np.clip((depth[there].astype(np.float64) - low) / max(1.0, high - low), 0.0, 1.0)[:, None]
        out[there] = ((1 - share) * np.array(NEAR) + share * np.array(FAR)).astype(np.uint8)
    return out


def annotate(depth: NDArray[np.uint16] | None, colour: U8 | None, found: Segmented | None, people: list[Person]) -> Any:
    """Return a PIL image: the depth (left) and the colour (right), whichever there are, with all that was found."""
    from PIL import Image, ImageDraw

    panels = [panel for panel in (shaded(depth) if depth is not None else None, colour) if panel is not None]
    image = Image.fromarray(np.concatenate(panels, axis=1))
    draw = ImageDraw.Draw(image)
    width = panels[0].shape[1]
    for n, thing in enumerate(found.things[:SHOWN] if found is not None else [], start=1):
        left, top, right, bottom = thing.box
        draw.rectangle((left, top, right, bottom), outline=BOX, width=2)
        label = f"{n}: {thing.distance:.2f} m"
        at = (left + 3, max(0, top + 2))
        draw.rectangle(draw.textbbox(at, label), fill=(0, 0, 0))
        draw.text(at, label, fill=TEXT)
    for person in people:
        for panel in range(len(panels)):
            _draw_skeleton(draw, person, panel * width)
    return image


def _draw_skeleton(draw: Any, person: Person, shift: int) -> None:
    for a, b in BONES:
        start, end = person.skeleton[a], person.skeleton[b]
        if min(start.visibility, end.visibility) >= SEEN:
            line = (start.pixel[0] + shift, start.pixel[1], end.pixel[0] + shift, end.pixel[1])
            draw.line(line, fill=BONE, width=3)
