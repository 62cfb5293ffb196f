"""What a comparison came to: a table, a picture, and plain data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cell.compare.runs import Result

if TYPE_CHECKING:
    from rich.table import Table

NAMES = {
    "static_zone": "static stop zone, ISO 13855",
    "constant_speed": "constant speed, ISO/TS 15066",
    "exact": "exact, along the path",
    "reach": "reach: no contact with the moving arm",
    "ssm_contact": "exact, with zones of contact",
}
COLOURS = {
    "static_zone": "#b0b7c1", "constant_speed": "#f2a65b", "exact": "#2a9d57", "reach": "#8a5fb5",
    "ssm_contact": "#2f6fb5",
}  # fmt: skip
CONTACT_ALONE = ("reach",)
"""Methods that do not undertake to keep S_p: violations of it are shown and not held against them."""
SAME = 0.05
"""Lost times closer than this are equal, s: a few ticks of the controller."""


class Comparison(NamedTuple):
    """All runs of a comparison."""

    free_s: float
    """Cycle time with nobody there."""
    results: list[Result]
    least: Mapping[str, float] = MappingProxyType({})
    """What even a clairvoyant loses on each trace, s (`cell.compare.clairvoyant`)."""

    @property
    def methods(self) -> list[str]:
        return [method for method in NAMES if any(r.method == method for r in self.results)]

    @property
    def traces(self) -> list[str]:
        return list(dict.fromkeys(sorted(r.trace for r in self.results)))

    def of(self, trace: str, method: str) -> Result | None:
        """One run, if there was one."""
        return next((r for r in self.results if (r.trace, r.method) == (trace, method)), None)

    def lost(self, result: Result) -> float:
        """Cycle time beyond that with nobody there, s."""
        return max(0.0, result.cycle_s - self.free_s)

    def total_lost(self, method: str) -> float:
        """Of all traces, s."""
        return sum(self.lost(r) for r in self.results if r.method == method)

    @property
    def total_least(self) -> float | None:
        """What a clairvoyant loses on all traces, s; None if it is not known of one."""
        known = [self.least[trace] for trace in self.traces if trace in self.least]
        return sum(known) if known and len(known) == len(self.traces) else None

    def beyond(self, trace: str) -> float:
        """Share of a visit in which the person is faster than the configured human speed; the most of its runs."""
        return max((r.beyond_share for r in self.results if r.trace == trace), default=0.0)

    @property
    def inside(self) -> list[str]:
        """Visits that lie wholly inside the assumption about people's speed: what a method promises, it promises
        these."""
        return [trace for trace in self.traces if self.beyond(trace) == 0.0]

    def outside_contacts(self) -> list[str]:
        """Contacts with people who came faster than configured: shown, and held against no method."""
        return [
            f"{r.trace}, {r.method}: {r.contacts_outside_assumption} contacts outside the assumption (the person is "
            f"faster than configured for {100 * self.beyond(r.trace):.0f} % of the visit)"
            for r in self.results
            if r.contacts_outside_assumption
        ]

    def problems(self) -> list[str]:
        """What a method may not do, and where the better one loses more than the coarser one."""
        found = []
        for r in self.results:
            if r.outcome != "Complete":
                found.append(f"{r.trace}, {r.method}: {r.outcome}")
            # Not `> 0`: a report that counts more contacts outside the assumption than contacts is no report.
            if r.contacts_within != 0 or (r.psd_violations and r.method not in CONTACT_ALONE):
                found.append(f"{r.trace}, {r.method}: {r.contacts_within} contacts, {r.psd_violations} violations")
            if r.contact_limit_exceedances:
                found.append(f"{r.trace}, {r.method}: {r.contact_limit_exceedances} touches above the contact limits")
        for trace in self.traces:
            exact, static = self.of(trace, "exact"), self.of(trace, "static_zone")
            if exact is not None and static is not None and self.lost(exact) > self.lost(static) + SAME:
                found.append(f"{trace}: exact loses {self.lost(exact):.2f} s, the zone {self.lost(static):.2f} s")
        if {"reach", "constant_speed"} <= set(self.methods):
            reach, constant = self.total_lost("reach"), self.total_lost("constant_speed")
            if reach > constant + SAME:
                found.append(f"reach loses {reach:.2f} s in all, constant speed {constant:.2f} s")
        return found


def plain(comparison: Comparison) -> dict[str, Any]:
    """As JSON."""
    static, least = comparison.total_lost("static_zone"), comparison.total_least
    return {
        "cycle_with_nobody_s": comparison.free_s,
        "clairvoyant_lost_s": least,
        "clairvoyant": dict(comparison.least),
        "methods": [
            {
                "method": method,
                "lost_s": comparison.total_lost(method),
                "below_static_zone": 1.0 - comparison.total_lost(method) / static if static > 0.0 else None,
                "above_clairvoyant_s": comparison.total_lost(method) - least if least is not None else None,
                "stops": sum(r.stops for r in comparison.results if r.method == method),
                **{
                    count: sum(getattr(r, count) for r in comparison.results if r.method == method)
                    for count in ("contacts_while_moving", "contacts_outside_assumption", "psd_violations")
                },
            }
            for method in comparison.methods
        ],
        "visits": [{"visit": trace, "beyond_share": comparison.beyond(trace)} for trace in comparison.traces],
        "visits_inside_assumption": len(comparison.inside),
        "contacts_outside_assumption": comparison.outside_contacts(),
        "runs": [msgspec.structs.asdict(r) | {"lost_s": comparison.lost(r)} for r in comparison.results],
        "problems": comparison.problems(),
    }


def _seconds(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _beyond(comparison: Comparison, trace: str) -> str:
    """Share of a visit beyond the assumption about people's speed, and contacts there."""
    share = comparison.beyond(trace)
    touches = sum(r.contacts_outside_assumption for r in comparison.results if r.trace == trace)
    return (f"{100 * share:.1f} %" if share else "-") + (f", {touches} contacts" if touches else "")


def table_of(comparison: Comparison) -> Table:
    """Lost time and stops of every visit."""
    from rich.table import Table

    table = Table(title=f"Lost time, s (nobody there: {comparison.free_s:.2f} s)", title_justify="left")
    table.add_column("visit")
    for method in comparison.methods:
        table.add_column(method.replace("_", " "), justify="right")
        table.add_column("stops", justify="right")
    table.add_column("clairvoyant", justify="right")
    table.add_column("beyond", justify="right")
    for trace in comparison.traces:
        row = [trace]
        for method in comparison.methods:
            r = comparison.of(trace, method)
            row += ["", ""] if r is None else [f"{comparison.lost(r):.2f}", str(r.stops)]
        table.add_row(*row, _seconds(comparison.least.get(trace)), _beyond(comparison, trace))
    table.add_section()
    static = comparison.total_lost("static_zone")
    row = ["all"]
    for method in comparison.methods:
        lost = comparison.total_lost(method)
        less = f"{100 * (lost / static - 1):+.0f} %" if static > 0.0 and method != "static_zone" else ""
        row += [f"{lost:.1f}", less]
    inside = f"{len(comparison.inside)} of {len(comparison.traces)} inside"
    table.add_row(*row, _seconds(comparison.total_least, 1), inside, style="bold")
    return table


def markdown(comparison: Comparison) -> str:
    """The table as Markdown."""
    heads = ["visit"]
    for method in comparison.methods:
        heads += [f"{method} lost s", "stops", "min m"]
    heads += ["clairvoyant s", "beyond the assumption"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for trace in comparison.traces:
        row = [trace]
        for method in comparison.methods:
            r = comparison.of(trace, method)
            near = "" if r is None or r.min_separation_m is None else f"{r.min_separation_m:.2f}"
            row += ["", "", ""] if r is None else [f"{comparison.lost(r):.2f}", str(r.stops), near]
        row += [_seconds(comparison.least.get(trace)), _beyond(comparison, trace)]
        lines.append("| " + " | ".join(row) + " |")
    total = ["**all**"]
    for method in comparison.methods:
        total += [f"**{comparison.total_lost(method):.1f}**", "", ""]
    total += [f"**{_seconds(comparison.total_least, 1)}**", f"{len(comparison.inside)} visits inside"]
    return "\n".join([*lines, "| " + " | ".join(total) + " |"]) + "\n"


def draw(comparison: Comparison, path: Path) -> None:
    """One bar for each visit and method."""
    from matplotlib.figure import Figure

    traces, methods = comparison.traces, comparison.methods
    figure = Figure(figsize=(9.0, 1.6 + 0.32 * len(traces)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / max(1, len(methods))
    for n, method in enumerate(methods):
        runs = [comparison.of(trace, method) for trace in traces]
        lost = [comparison.lost(r) if r is not None else 0.0 for r in runs]
        at = [k + (n - 0.5 * (len(methods) - 1)) * height for k in range(len(traces))]
        label = f"{NAMES[method]}: {comparison.total_lost(method):.0f} s in all"
        axes.barh(at, lost, height=height, color=COLOURS[method], label=label)
    axes.set_yticks(range(len(traces)), traces, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"time lost in a batch of {comparison.free_s:.1f} s, s")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper left", fontsize=8, ncols=1, frameon=False)
    figure.savefig(path)
