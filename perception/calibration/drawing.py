"""Pictures of calibrations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception.calibration.empty import DEEPER, NEARER, UNKNOWN, Comparison, Recorded

F64 = NDArray[np.float64]
LONGER = 100.0
"""Residuals are drawn so many times longer."""
COLOURS = {NEARER: (220, 50, 40), DEEPER: (40, 90, 220), UNKNOWN: (150, 150, 160)}


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def draw_residuals(
    path: Path, size: tuple[int, int], pixels: F64, residuals: F64, views: Sequence[tuple[str, float, bool]], title: str
) -> None:
    """Corners (n, 2) of all used views with their residuals (n, 2), px, over the picture; and each view's (name, root
    mean square, whether it was left out)."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 5.6), width_ratios=[2, 1])
    left.quiver(
        pixels[:, 0], pixels[:, 1], LONGER * residuals[:, 0], LONGER * residuals[:, 1],
        angles="xy", scale_units="xy", scale=1, width=0.0015, color="tab:red",
    )  # fmt: skip
    left.plot(pixels[:, 0], pixels[:, 1], "k.", markersize=2)
    left.set(xlim=(0, size[0]), ylim=(size[1], 0), xlabel="column (px)", ylabel="row (px)", aspect="equal")
    left.set_title(f"corners, residuals {LONGER:g} times")
    right.barh([v[0] for v in views], [v[1] for v in views], color=["tab:red" if v[2] else "tab:blue" for v in views])
    right.invert_yaxis()
    right.tick_params(axis="y", labelsize=7)
    right.set(xlabel="residual (px), red: left out")
    figure.suptitle(title)
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)


def draw_comparison(path: Path, recorded: Recorded, found: Comparison, title: str) -> None:
    """Expected, measured, and what differs (red: nearer, blue: deeper, grey: unknown), numbered as in the report."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(17, 4))
    low, high = np.nanpercentile(recorded.depth, [1, 99])
    for axis, depth, text in ((axes[0], found.expected, "by the cell file"), (axes[1], recorded.depth, "measured")):
        shown = axis.imshow(depth, cmap="viridis_r", vmin=low, vmax=high)
        axis.set_title(f"{text}, m")
        figure.colorbar(shown, ax=axis, fraction=0.03)
    share = np.clip((np.nan_to_num(recorded.depth, nan=high) - low) / max(high - low, 1e-6), 0.0, 1.0)
    picture = np.repeat((235 - 150 * share)[..., None], 3, axis=2).astype(np.uint8)
    for value, colour in COLOURS.items():
        picture[found.mask == value] = colour
    axes[2].imshow(picture)
    axes[2].set_title("red nearer, blue deeper, grey unknown")
    figure.suptitle(title)
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)
