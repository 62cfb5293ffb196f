"""Reports of `cell calibrate` for people."""

from __future__ import annotations

from typing import Any


def _table(report: dict[str, Any], last: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("view", "corners", "px", "mm", last.replace("_", " "), "", title=f"camera {report['camera']}")
    for view in report["views"]:
        note = "outlier, left out" if view["outlier"] else ""
        numbers = (f"{view['px']:.2f}", f"{view['mm']:.2f}", f"{view[last]:.2f}")
        table.add_row(view["name"], str(view["corners"]), *numbers, note)
    Console().print(table)
    if report["no_board_found"]:
        print(f"no board found in: {', '.join(report['no_board_found'])}")


def print_intrinsics(report: dict[str, Any]) -> None:
    """Show a report of `cell calibrate intrinsics`."""
    _table(report, "tilt_deg")
    lens, sd = report["lens"], report["sd_px"]
    print("  ".join(f"{key} {lens[key]:.2f} +- {sd[key]:.2f}" for key in ("fx", "fy", "cx", "cy")) + " px")
    print(f"distortion {[round(v, 4) for v in lens.get('distortion', [])]}  residual {report['residual_px']:.2f} px")
    if "error_px" in report:
        print("off the twin's truth: " + "  ".join(f"{key} {v:+.2f}" for key, v in report["error_px"].items()) + " px")
    print(f"picture: {report['picture']}")


def print_extrinsics(report: dict[str, Any]) -> None:
    """The same of `extrinsics`."""
    _table(report, "deg")
    sd, away = report["sd"], report["from_cell_file"]
    print(f"residual {report['residual_px']:.2f} px; standard deviation {sd['mm']:.2f} mm, {sd['deg']:.3f} degrees")
    print(f"off the cell file's mount by {away['mm']:.1f} mm, {away['deg']:.2f} degrees")
    if "error" in report:
        print(f"off the twin's truth by {report['error']['mm']:.2f} mm, {report['error']['deg']:.3f} degrees")
    print(f"proposal: {report['proposal']} (nothing was changed)\npicture: {report['picture']}")


def print_background(report: dict[str, Any]) -> None:
    """The same of `background`."""
    for d in report["differences"]:
        place, size = (" ".join(f"{v:.2f}" for v in d[key]) for key in ("centre", "extent"))
        what = {
            "extra": f"not in the cell file: something {abs(d['off_m']):.2f} m before {d['fixture'] or 'nothing'}",
            "gone": f"not there: {d['fixture']}; the camera sees {d['off_m']:.2f} m past it",
        }[d["kind"]]
        moved = f"; probably {d['moved']}, moved" if d["moved"] else ""
        print(f"{what}, at ({place}) m, {size} m large{moved}")
    noise = report["noise_coefficient"]
    print(
        f"{len(report['differences'])} differences; {report['unknown_share']:.1%} of the static surfaces unknown; "
        f"noise {noise['measured']} z^2, assumed {noise['assumed']} z^2 (m)"
    )
    print(f"picture: {report['picture']}")
