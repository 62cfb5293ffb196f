"""Safety pages: the configuration, what-if figures, proposals and their acceptance."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from cell.pendant.errors import ApiError, invalid
from cell.pendant.geometry import zone_view
from cell.pendant.history import LedgerReader
from cell.pendant.people import Body, Plain, Secret, Who, check_password
from cell.pendant.proposals import faults_of
from cell.yamlfile import FileErrors
from safety.config import SafetyConfig, fingerprint
from safety.separation import Braking, constant_speed

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

Positive = Annotated[float, Field(ge=0.0, le=20.0)]


class ConfigBody(Body):
    config: Plain


class ProposeBody(Body):
    config: Plain
    comment: Annotated[str, Field(max_length=2000)] = ""
    password: Secret


class AcceptBody(Body):
    password: Secret


class PsdBody(Body):
    v_human: Positive
    v_robot: Positive
    T_r: Positive
    T_s: Positive
    C: Positive = 0.0
    Z_d: Positive = 0.0
    Z_r: Positive = 0.0


def psd(body: PsdBody) -> dict[str, float]:
    """The protective separation distance of ISO/TS 15066 with constant speeds; the arm brakes evenly within T_s."""
    braking = Braking(time=body.T_s, distance=0.5 * body.v_robot * body.T_s)
    terms = constant_speed(body.v_human, body.v_robot, body.T_r, braking, body.C, body.Z_d, body.Z_r)
    return {**terms._asdict(), "S_p": terms.S_p}


def _shown(proposal: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in proposal.items() if name not in ("signature", "base")}


def router(pendant: Pendant) -> APIRouter:
    """Return the endpoints."""
    routes = APIRouter(tags=["safety"])
    ledger = LedgerReader(pendant.session.directory / "events.sqlite")

    def overview() -> dict[str, Any]:
        files = pendant.safety
        config = files.present()
        running = pendant.session.safety
        return {
            "file": files.file.name,
            "config": config.model_dump(mode="json"),
            "schema": SafetyConfig.model_json_schema(),
            "fingerprint": fingerprint(config),
            "running_fingerprint": fingerprint(running),
            "session_fingerprint": pendant.session.file.fingerprint,
            "restart_needed": fingerprint(running) != fingerprint(config),
            "signatures": files.signatures(),
            "proposals": [_shown(one) for one in files.proposals()],
            "zones": [zone_view(zone) for zone in config.zones.volumes],
            "psd_defaults": {
                "v_human": config.human.slow,
                "v_robot": 1.0,
                "T_r": config.reaction.total,
                "T_s": 0.3,
                "C": config.intrusion,
                "Z_d": config.Z_d,
                "Z_r": config.Z_r,
            },
        }

    @routes.get("/safety")
    async def safety() -> dict[str, Any]:
        """The configuration in the file, its signatures, and what the running cell uses."""
        return await asyncio.to_thread(overview)

    @routes.post("/safety/check")
    async def check(body: ConfigBody) -> dict[str, Any]:
        """All faults of a configuration, overlaps and gaps of zones among them."""
        return await asyncio.to_thread(pendant.safety.check, body.config)

    @routes.post("/safety/psd")
    async def what_if(body: PsdBody) -> dict[str, float]:
        """The protective separation distance for other figures."""
        return psd(body)

    @routes.post("/safety/diff")
    async def diff(body: ConfigBody) -> list[dict[str, Any]]:
        """What a configuration would change."""
        try:
            return await asyncio.to_thread(pendant.safety.diff, body.config)
        except FileErrors as caught:
            raise _invalid(caught) from None

    @routes.get("/safety/proposals")
    async def proposals() -> list[dict[str, Any]]:
        """All proposals, newest first."""
        return [_shown(one) for one in await asyncio.to_thread(pendant.safety.proposals)]

    @routes.post("/safety/proposals", status_code=201)
    async def propose(body: ProposeBody, login: Who, request: Request) -> dict[str, Any]:
        """Sign a proposal; another safety engineer accepts or refuses it."""
        await check_password(pendant, request, login.name, body.password)
        arguments = (body.config, body.comment, login.name, body.password)
        try:
            proposal = await asyncio.to_thread(pendant.safety.propose, *arguments)
        except FileErrors as caught:
            raise _invalid(caught) from None
        told = {"proposal": proposal["id"], "fingerprint": proposal["fingerprint"]}
        pendant.emit("pendant.safety_proposed", login.name, **told, diff=proposal["diff"][:50])
        return _shown(proposal)

    @routes.post("/safety/proposals/{id}/accept")
    async def accept(id: str, body: AcceptBody, login: Who, request: Request) -> dict[str, Any]:
        """Sign as the second person; the file is written and holds from the next start of the cell."""
        await check_password(pendant, request, login.name, body.password)
        proposal = await asyncio.to_thread(pendant.safety.accept, id, login.name, body.password)
        told = {"proposal": id, "fingerprint": proposal["fingerprint"], "by": proposal["by"]}
        pendant.emit("pendant.safety_accepted", login.name, **told)
        return _shown(proposal)

    @routes.post("/safety/proposals/{id}/refuse")
    async def refuse(id: str, login: Who) -> dict[str, Any]:
        """Decline somebody's proposal."""
        proposal = await asyncio.to_thread(pendant.safety.close, id, "refused", login.name)
        pendant.emit("pendant.safety_refused", login.name, proposal=id)
        return _shown(proposal)

    @routes.post("/safety/proposals/{id}/withdraw")
    async def withdraw(id: str, login: Who) -> dict[str, Any]:
        """Take the own proposal back."""
        proposal = await asyncio.to_thread(pendant.safety.close, id, "withdrawn", login.name)
        pendant.emit("pendant.safety_withdrawn", login.name, proposal=id)
        return _shown(proposal)

    @routes.get("/safety/history")
    async def history() -> list[dict[str, Any]]:
        """Faults, protective stops and self-tests, newest first."""
        where = "kind LIKE 'safety.%' OR kind IN ('robot.fault', 'robot.fault_cleared', 'robot.stop')"
        rows = await asyncio.to_thread(ledger.rows, where, [], 500)
        shift = pendant.wall() / 1000.0 - pendant.now()
        return [
            {"seq": seq, "t": t, "wall": int(1000 * (t + shift)), "source": source, "kind": kind,
             "data": json.loads(raw)}
            for seq, source, t, kind, raw in rows
        ]  # fmt: skip

    return routes


def _invalid(caught: FileErrors) -> ApiError:
    problems = faults_of(caught)
    return invalid(problems[0]["message"], problems[0]["field"], problems[0]["allowed"], errors=problems)
