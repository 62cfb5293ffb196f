"""Responses of an arm as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cell.identify.run import Joint


def draw(path: Path, joints: Sequence[Joint], delay: float, claimed: float, title: str) -> None:
    """Draw step and sweep of the slowest joint, and delay and gain of all over the frequency; PNG at `path`."""
    from matplotlib.figure import Figure

    worst = max(joints, key=lambda one: one.bound)
    trial = max(worst.trials, key=lambda t: t.bound)
    figure = Figure(figsize=(10.0, 6.4), layout="constrained")
    (step, sweep), (delays, gains) = figure.subplots(2, 2)
    for axes, series, what, begin, length in (
        (step, trial.there, "step", 0.0, 0.6),
        (sweep, trial.sweep, "sweep, fastest part", 6.2, 1.6),
    ):
        t0 = series.sent[0] + begin
        for times, values, name in (
            (series.sent, series.commanded, "commanded"),
            (series.seen, series.measured, "measured"),
        ):
            shown = (times >= t0) & (times <= t0 + length)
            axes.plot(times[shown] - series.sent[0], np.degrees(values[shown] - series.commanded[0]), label=name)
        axes.set(title=f"joint {worst.joint + 1}: {what}", xlabel="s", ylabel="degrees")
        axes.legend(fontsize="small")
    for one in joints:
        response = max(one.trials, key=lambda t: t.bound).response
        delays.plot(response.frequency, 1e3 * response.delay, marker=".", label=f"joint {one.joint + 1}")
        gains.plot(response.frequency, response.gain, marker=".")
    delays.axhline(1e3 * claimed, linestyle="--", color="black", label="the driver's claim")
    delays.axhline(1e3 * delay, linestyle=":", color="black", label="identified")
    delays.set(title="delay", xlabel="Hz", ylabel="ms", xscale="log", ylim=(0.0, None))
    delays.legend(fontsize="x-small", ncols=2)
    gains.set(title="gain", xlabel="Hz", xscale="log")
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=80)
