"""`cell safety distance | contact | protective-field`: the formulas of the standards for figures given as JSON."""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

SIZE_LIMIT = 20_000_000
"""Bytes of input."""
Record = dict[str, Any]


class Bound(NamedTuple):
    """Range of a number."""

    low: float
    high: float
    unit: str
    open_low: bool = False

    def __str__(self) -> str:
        return f"{'more than ' if self.open_low else ''}{self.low:g} to {self.high:g} {self.unit}".rstrip()


DISTANCE: dict[str, Bound] = {
    "v_h": Bound(0.0, 20.0, "m/s"),
    "v_r": Bound(0.0, 50.0, "m/s"),
    "T_r": Bound(0.0, 60.0, "s"),
    "a_s": Bound(0.0, 1000.0, "m/s2", open_low=True),
    "T_s": Bound(0.0, 60.0, "s"),
    "S_s": Bound(0.0, 100.0, "m"),
    "C": Bound(0.0, 100.0, "m"),
    "Z_d": Bound(0.0, 100.0, "m"),
    "Z_r": Bound(0.0, 100.0, "m"),
    "d": Bound(0.0, 1000.0, "m"),
}
CONTACT: dict[str, Bound] = {
    "m_R": Bound(0.0, 1e5, "kg", open_low=True),
    "contact_area": Bound(0.0, 1.0, "m2", open_low=True),
}
FIELD: dict[str, Bound] = {
    "d_mm": Bound(0.0, 200.0, "mm", open_low=True),
    "T": Bound(0.0, 100.0, "s"),
    "H": Bound(0.0, 1000.0, "mm"),
    "Z_mm": Bound(0.0, 1e5, "mm"),
    "reach_over_mm": Bound(0.0, 1e5, "mm"),
}


class Faults(Exception):
    """What is wrong with a record: `(field, text)`, never empty."""

    def __init__(self, *faults: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {text}" for field, text in faults))
        self.faults = faults


class Reader:
    """Takes the fields of one record, collecting everything that is wrong."""

    def __init__(self, record: Mapping[str, Any], bounds: Mapping[str, Bound], known: tuple[str, ...]) -> None:
        self._record = record
        self._bounds = bounds
        self._faults: list[tuple[str, str]] = []
        for name in record:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                self._faults.append((name or "''", f"unknown field; {hint}"))

    def fail(self, field: str, text: str) -> None:
        """Note a fault."""
        self._faults.append((field, text))

    def number(self, name: str, required: bool = True) -> float | None:
        """Return a number in its range; None, with a fault noted where that is one, otherwise."""
        bound = self._bounds[name]
        if name not in self._record:
            if required:
                self.fail(name, f"is missing; allowed {bound}")
            return None
        value = self._record[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(name, f"{json.dumps(value)[:40]} is no number; allowed {bound}")
        elif isinstance(value, float) and not math.isfinite(value):
            self.fail(name, f"{value} is not finite; allowed {bound}")
        elif not bound.low <= value <= bound.high or (bound.open_low and value == bound.low):
            self.fail(
                name, f"{value if isinstance(value, float) else str(value)[:40]} is out of range; allowed {bound}"
            )
        else:
            return float(value)
        return None

    def choice(self, name: str, choices: Mapping[str, str], default: str | None = None) -> str:
        """Return the meaning of one of several words (numbers count as their text)."""
        if name not in self._record:
            if default is None:
                self.fail(name, f"is missing; allowed {', '.join(choices)}")
            return default or ""
        value = self._record[name]
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if text not in choices:
            self.fail(name, f"{json.dumps(value)[:40]} is unknown; allowed {', '.join(choices)}")
        return choices.get(text, "")

    def flag(self, name: str) -> bool | None:
        """Return true or false; None if it is not given."""
        value = self._record.get(name)
        if name in self._record and not isinstance(value, bool):
            self.fail(name, f"{json.dumps(value)[:40]} is neither true nor false")
            return None
        return value

    def done(self) -> None:
        """Raise Faults if there are any."""
        if self._faults:
            raise Faults(*self._faults)


def distance(record: Record) -> Record:
    """S_p with its terms if v_r is given, the allowed speed if d is given (ISO/TS 15066). Raises Faults."""
    from safety.separation import Braking, allowed_speed, constant_speed

    r = Reader(record, DISTANCE, tuple(DISTANCE))
    v_h, T_r = r.number("v_h"), r.number("T_r")
    a_s, T_s, S_s = (r.number(name, required=False) for name in ("a_s", "T_s", "S_s"))
    C, Z_d, Z_r = r.number("C"), r.number("Z_d"), r.number("Z_r")
    v_r, d = r.number("v_r", required=False), r.number("d", required=False)
    if "v_r" not in record and "d" not in record:
        r.fail("v_r", "is missing: give v_r for S_p, d for the allowed speed, or both")
    if "a_s" in record and ("T_s" in record or "S_s" in record):
        r.fail("a_s", "give either a_s, or T_s and S_s")
    elif "a_s" not in record:
        missing = [name for name in ("T_s", "S_s") if name not in record]
        for name in missing if len(missing) == 1 else ["a_s"] if missing else []:
            r.fail(name, "is missing: braking is a_s, or T_s and S_s")
    if a_s is None and d is not None and T_r == 0.0:
        r.fail("T_r", "must be more than 0 with T_s and S_s: no speed would be too high")
    r.done()
    stop = Braking(a_s, T_s, S_s)
    assert v_h is not None and T_r is not None and C is not None and Z_d is not None and Z_r is not None
    out: Record = {"C": C, "Z_d": Z_d, "Z_r": Z_r}
    if v_r is not None:
        terms = constant_speed(v_h, v_r, T_r, stop, C, Z_d, Z_r)
        out = {**terms._asdict(), "S_p": terms.S_p}
    if d is not None:
        out["allowed_speed"] = allowed_speed(d, v_h, T_r, stop, C, Z_d, Z_r)
    return out


def contact(record: Record) -> Record:
    """Permitted speed of contact with a body region (ISO/TS 15066, annex A). Raises Faults."""
    from safety.contact import ContactError, contact_speed, default_limits

    known = ("region", "m_R", "force_only", "contact_area", "contact", "body_area")
    r = Reader(record, CONTACT, known)
    regions = {name: name for name in default_limits().regions}
    region, m_R = r.choice("region", regions), r.number("m_R")
    kind = r.choice("contact", {"transient": "transient", "quasi_static": "quasi_static"}, "transient")
    force_only, area = r.flag("force_only"), r.number("contact_area", required=False)
    spot = record.get("body_area")
    if "body_area" in record and not isinstance(spot, str):
        r.fail("body_area", f"{json.dumps(spot)[:40]} is no name")
    if force_only is False and "contact_area" not in record:
        r.fail("contact_area", "is missing: a pressure limits only with the declared contact area of the tool, m2")
    r.done()
    assert m_R is not None
    try:
        got = contact_speed(region, m_R, kind, None if force_only else area, spot)  # type: ignore[arg-type]
    except ContactError as error:
        raise Faults((error.field, str(error).removeprefix(f"{error.field}: "))) from None
    return {
        "mu": got.mu,
        "k": got.k,
        "F_T": got.force,
        "p_T": got.pressure,
        "allowed_speed": got.speed,
        "source": got.source,
        "units": {"mu": "kg", "k": "N/m", "F_T": "N", "p_T": "Pa", "allowed_speed": "m/s"},
    }


def protective_field(record: Record) -> Record:
    """Distance of a fixed protective field (ISO 13855). Raises Faults."""
    from safety import protective_field as field

    r = Reader(record, FIELD, ("edition", "approach", "d_mm", "T", "H", "Z_mm", "reach_over_mm"))
    edition = r.choice("edition", {"2010": "2010", "2024": "2024"})
    ways = {"orthogonal": "orthogonal", "orth": "orthogonal", "parallel": "parallel", "par": "parallel"}
    approach = r.choice("approach", ways)
    d, T = r.number("d_mm"), r.number("T")
    unused = approach == "orthogonal" and record.get("H") is None
    H = None if unused else r.number("H", required=approach == "parallel")
    Z, over = r.number("Z_mm", required=False), r.number("reach_over_mm", required=False)
    r.done()
    assert d is not None and T is not None
    try:
        got = field.protective_field(edition, approach, d, T, H, over or 0.0, Z or 0.0)  # type: ignore[arg-type]
    except field.FieldError as error:
        name = {"Z": "Z_mm", "reach_over": "reach_over_mm"}.get(error.field, error.field)
        raise Faults((name, str(error).removeprefix(f"{error.field}: "))) from None
    return {"K": got.K, "C_or_D_DS_mm": got.reach, "S_mm": got.S}


FORMULAS: dict[str, Callable[[Record], Record]] = {
    "distance": distance,
    "contact": contact,
    "protective-field": protective_field,
}


def parse(text: str) -> Any:
    """Return JSON text as data. Raises Faults: not JSON, or a field given twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in pairs:
            if name in result:
                raise Faults((name, "is given twice"))
            result[name] = value
        return result

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Faults(("input", f"is not JSON: {error}")) from None


def answer(kind: str, data: Any) -> Any:
    """Apply a formula to one record or a list of records; the answer has the same shape.

    Raises Faults with every fault of every record, named `[index].field` in a list.
    """
    formula = FORMULAS[kind]
    if isinstance(data, dict):
        return formula(data)
    if not isinstance(data, list):
        raise Faults(("input", "is neither an object nor a list of objects"))
    results: list[Record] = []
    faults: list[tuple[str, str]] = []
    for i, record in enumerate(data):
        if not isinstance(record, dict):
            faults.append((f"[{i}]", "is no object"))
            continue
        try:
            results.append(formula(record))
        except Faults as caught:
            faults += [(f"[{i}].{field}", text) for field, text in caught.faults]
    if faults:
        raise Faults(*faults)
    return results


def read_input(name: str) -> str:
    """Return the text of a file, or of standard input for `-`. Raises Faults."""
    try:
        raw = sys.stdin.buffer.read(SIZE_LIMIT + 1) if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise Faults((name, f"cannot be read: {error.strerror}")) from None
    if len(raw) > SIZE_LIMIT:
        raise Faults((name, f"is larger than {SIZE_LIMIT} bytes"))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Faults((name, "is not text in UTF-8")) from None


def run_formula(kind: str, source: str, as_json: bool) -> int:
    """Read, calculate, print; return the exit code. Faults go to standard error, one a line."""
    from cell.exits import BAD_INPUT, OK

    try:
        data = parse(read_input(source))
        result = answer(kind, data)
    except Faults as caught:
        for field, text in caught.faults:
            print(f"cell safety {kind}: {field}: {text}", file=sys.stderr)
        return BAD_INPUT
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        _show(kind, data, result)
    return OK


def _show(kind: str, data: Any, result: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    given, found = (data, result) if isinstance(data, list) else ([data], [result])
    inputs = list(dict.fromkeys(name for record in given for name in record))
    outputs = list(dict.fromkeys(name for record in found for name in record if name not in inputs))
    outputs = [name for name in outputs if name not in ("units", "source")]
    table = Table(title=f"{kind} ({UNITS[kind]})", title_justify="left")
    for name in inputs:
        table.add_column(name, justify="right", style="dim", overflow="fold")
    for name in outputs:
        table.add_column(name, justify="right", style="bold", overflow="fold")
    for record, values in zip(given, found, strict=True):
        table.add_row(*(_text(record.get(n)) for n in inputs), *(_text(values.get(n)) for n in outputs))
    console = Console()
    console.print(table)
    for source in dict.fromkeys(values["source"] for values in found if "source" in values):
        console.print(source, style="dim", markup=False, highlight=False)


UNITS = {
    "distance": "m, s; ISO/TS 15066:2016 5.5.4.2.3",
    "contact": "kg, N/m, N, Pa, m/s; ISO/TS 15066:2016 annex A",
    "protective-field": "mm, s, mm/s; ISO 13855",
}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
