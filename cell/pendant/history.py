"""Alarms and what people did, from the ledger of this session. Reading blocks: the endpoints use threads."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from cell.pendant.errors import ApiError

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

MOST = 1000
COLUMNS = ("wall", "what", "code", "text", "detail", "reaction", "first_out", "person")
Text = Annotated[str, Query(max_length=200)]
Wall = Annotated[int | None, Query(ge=0, le=2**53)]
Limit = Annotated[int, Query(ge=1, le=MOST)]
Offset = Annotated[int, Query(ge=0, le=2**31)]


class LedgerReader:
    """Queries on one ledger file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, where: str, values: list[Any], limit: int, offset: int = 0, newest: bool = True) -> list[Any]:
        """Rows (id, source, t, kind, data) that satisfy an SQL condition; none while there is no ledger."""
        order = "DESC" if newest else "ASC"
        query = f"SELECT id, source, t, kind, data FROM events WHERE {where} ORDER BY id {order} LIMIT ? OFFSET ?"
        return self._ask(query, [*values, limit, offset])

    def count(self, where: str, values: list[Any]) -> int:
        """How many there are."""
        found = self._ask(f"SELECT COUNT(*) FROM events WHERE {where}", values)
        return int(found[0][0]) if found else 0

    def _ask(self, query: str, values: list[Any]) -> list[Any]:
        if not self._path.is_file():
            return []
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=1.0)) as db:
                return db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise ApiError(503, "ledger", f"the ledger cannot be read: {error}", remedy="Try again") from None


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def alarm_filter(search: str, code: str, since_t: float | None, until_t: float | None) -> tuple[str, list[Any]]:
    """SQL condition and its values; times on the ledger's clock, s."""
    where = ["kind IN ('alarm.raised', 'alarm.cleared', 'alarm.acknowledged')"]
    values: list[Any] = []
    if search:
        where.append("CAST(data AS TEXT) LIKE ? ESCAPE '\\'")
        values.append(_like(search))
    if code:
        where.append("json_extract(data, '$.code') = ?")
        values.append(code)
    if since_t is not None:
        where.append("t >= ?")
        values.append(since_t)
    if until_t is not None:
        where.append("t <= ?")
        values.append(until_t)
    return " AND ".join(where), values


def alarm_row(row: Any, wall_offset: float) -> dict[str, Any]:
    """One line of the history. `wall_offset`: Unix time minus the ledger's clock, s."""
    data = json.loads(row[4])
    fields = {name: data.get(name) for name in ("code", "text", "detail", "reaction", "first_out", "person")}
    wall = int(1000 * (row[2] + wall_offset))
    return {"seq": row[0], "t": row[2], "wall": wall, "what": row[3].removeprefix("alarm."), **fields}


def safe_cell(value: Any) -> str:
    """A text that no table program takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def to_csv(rows: list[dict[str, Any]]) -> str:
    """The history as CSV with a heading."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    writer.writerows([safe_cell(row[name]) for name in COLUMNS] for row in rows)
    return out.getvalue()


def router(pendant: Pendant) -> APIRouter:
    """Return the endpoints."""
    routes = APIRouter(tags=["history"])
    ledger = LedgerReader(pendant.session.directory / "events.sqlite")

    def clock_offset() -> float:
        return pendant.wall() / 1000.0 - pendant.now()

    def filters(search: str, code: str, since: int | None, until: int | None) -> tuple[str, list[Any]]:
        shift = clock_offset()
        times = [None if wall is None else wall / 1000.0 - shift for wall in (since, until)]
        return alarm_filter(search, code, times[0], times[1])

    async def found(where: str, values: list[Any], limit: int, skip: int = 0) -> list[dict[str, Any]]:
        rows = await asyncio.to_thread(ledger.rows, where, values, limit, skip)
        shift = clock_offset()
        return [alarm_row(row, shift) for row in rows]

    @routes.get("/alarms")
    async def alarms() -> list[dict[str, Any]]:
        """Alarms that are active or have not been read."""
        status = pendant.feed.status
        return [msgspec.to_builtins(alarm) for alarm in status.alarms] if status is not None else []

    @routes.get("/alarms/history")
    async def alarm_history(
        search: Text = "",
        code: Text = "",
        since: Wall = None,
        until: Wall = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> dict[str, Any]:
        """What alarms did, newest first; `since` and `until` are Unix ms."""
        where, values = filters(search, code, since, until)
        total = await asyncio.to_thread(ledger.count, where, values)
        return {"items": await found(where, values, limit, offset), "total": total}

    @routes.get("/alarms/history.csv")
    async def alarm_csv(search: Text = "", code: Text = "", since: Wall = None, until: Wall = None) -> Response:
        """The same for a table program."""
        rows = await found(*filters(search, code, since, until), 100_000)
        headers = {"content-disposition": 'attachment; filename="alarms.csv"'}
        return Response(to_csv(rows), media_type="text/csv; charset=utf-8", headers=headers)

    @routes.get("/events")
    async def events(since_seq: Offset = 0, limit: Limit = 100, person: Text = "") -> list[dict[str, Any]]:
        """What people did, newest first."""
        where = "id > ? AND json_extract(data, '$.person') IS NOT NULL"
        values: list[Any] = [since_seq]
        if person:
            where, values = f"{where} AND json_extract(data, '$.person') = ?", [since_seq, person]
        rows = await asyncio.to_thread(ledger.rows, where, values, limit)
        shift = clock_offset()
        result = []
        for seq, source, t, kind, raw in rows:
            data = json.loads(raw)
            name = data.pop("person", "")
            wall = int(1000 * (t + shift))
            result.append(
                {"seq": seq, "t": t, "wall": wall, "source": source, "kind": kind, "person": name, "data": data}
            )
        return result

    return routes
