"""Commands: one body for the request and for the socket, each answered when the cell has answered.

A command names the newest telemetry its page showed (`seen`): what was clicked before that is refused, so a click that
was held up somewhere never moves anything. Stop, Hold and Abort are taken from everybody who may operate, always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import Field, TypeAdapter, ValidationError

from cell.bus.messages import Reply
from cell.contract import (
    AcknowledgeAlarm,
    AnswerConfirm,
    ChooseRecovery,
    Command,
    CommandName,
    GoTo,
    LoadRecipe,
    ManualGrip,
    ManualOutput,
    NextPhase,
    OverrideSpeed,
    SetStepping,
    SetUnitMode,
    UnloadRecipe,
)
from cell.packml import table
from cell.pendant.errors import ApiError, invalid
from cell.pendant.logins import Login
from cell.pendant.people import Body, Plain, Who
from cell.pendant.roles import Least, permits
from perception.contract import ConfirmClear
from robots.contract import ClearFault

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

STALE = 1.0
"""A command whose page showed older data than this is refused, s."""
AHEAD = 0.1
"""One whose page pretends to have seen the future by more than this is refused, s."""
ALWAYS = frozenset({"Stop", "Hold", "Abort"})
LOAD_TIME = 120.0
PERSON_TIME = 10.0
"""Clearing and confirming wait for another node, s."""
Word = Annotated[str, Field(min_length=1, max_length=120)]


class _Base(Body):
    id: Annotated[str, Field(max_length=80)] = ""
    seen: float | None = None
    """`t` of the newest telemetry the page showed."""


class PackmlCommand(_Base):
    type: Literal["packml"]
    name: CommandName


class ModeCommand(_Base):
    type: Literal["mode"]
    mode: Literal["automatic", "manual"]


class OverrideCommand(_Base):
    type: Literal["override"]
    value: Annotated[float, Field(ge=0.0, le=1.0)]


class AnswerCommand(_Base):
    type: Literal["answer"]
    question: Word
    choice: Word


class AcknowledgeCommand(_Base):
    type: Literal["acknowledge"]
    code: Word


class ClearFaultCommand(_Base):
    type: Literal["clear_fault"]


class ConfirmClearCommand(_Base):
    type: Literal["confirm_clear"]


class LoadCommand(_Base):
    type: Literal["load"]
    recipe: Word
    settings: Plain = {}
    batches: Annotated[int, Field(ge=1, le=1000)] = 1


class UnloadCommand(_Base):
    type: Literal["unload"]


class SteppingCommand(_Base):
    type: Literal["stepping"]
    value: Literal["automatic", "step", "confirm_each"]


class NextCommand(_Base):
    type: Literal["next"]


class GoToCommand(_Base):
    type: Literal["goto"]
    point: Word


class GripCommand(_Base):
    type: Literal["grip"]
    width: Annotated[float, Field(ge=0.0, le=0.5)]
    force: Annotated[float, Field(ge=0.0, le=500.0)] = 0.0


class OutputCommand(_Base):
    type: Literal["output"]
    name: Word
    value: bool


class RestockCommand(_Base):
    type: Literal["restock"]


class PeopleCommand(_Base):
    type: Literal["people"]
    start: Literal[True]


AnyCommand = Annotated[
    PackmlCommand
    | ModeCommand
    | OverrideCommand
    | AnswerCommand
    | AcknowledgeCommand
    | ClearFaultCommand
    | ConfirmClearCommand
    | LoadCommand
    | UnloadCommand
    | SteppingCommand
    | NextCommand
    | GoToCommand
    | GripCommand
    | OutputCommand
    | RestockCommand
    | PeopleCommand,
    Field(discriminator="type"),
]
ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyCommand)
PROGRAMMERS = (GoToCommand, GripCommand, OutputCommand)
"""Commands that move the arm by hand."""


class Answer(Body):
    """What became of a command."""

    id: str
    verdict: Literal["done", "accepted", "rejected", "failed"]
    reason: str = ""
    remedy: str = ""
    code: str = ""
    """Of a rejection: `refused`, `stale`, `not_in_control`, `role`, `locked`, `invalid`, `cell_silent`."""
    analysis: dict[str, Any] | None = None
    """Of `load`."""


def is_stop(command: Any) -> bool:
    """Is it one of those that are never refused here?"""
    return isinstance(command, PackmlCommand) and command.name in ALWAYS


def check(pendant: Pendant, login: Login, command: Any, now: float) -> None:
    """Raises ApiError for a command that does not go on to the cell."""
    if login.ended:
        raise ApiError(401, "not_logged_in", "nobody is logged in here any more", remedy="Log in")
    if is_stop(command):
        return
    if login.locked:
        raise ApiError(403, "locked", "the session is locked", remedy="Enter your password")
    least: Least = "programmer" if isinstance(command, PROGRAMMERS) else "operator"
    if not permits(login.role, least):
        raise ApiError(403, "role", f"this is for the role {least}, {login.name} is {login.role}")
    reason = pendant.control.refusal(login.id, now)
    if reason:
        raise ApiError(403, "not_in_control", reason)
    # Written so that a NaN, or nothing, is stale.
    if command.seen is None or not -AHEAD <= now - command.seen <= STALE:
        text = "the page showed old data when this was clicked"
        raise ApiError(409, "stale", text, "seen", remedy="Look at the page, then do it again")


async def execute(pendant: Pendant, login: Login, command: Any) -> Answer:
    """Do it, and return what the cell said. Raises ApiError for what never reached the cell."""
    now = pendant.now()
    check(pendant, login, command, now)
    login.active = now if not login.locked else login.active
    if isinstance(command, RestockCommand):
        return _answer(command, await pendant.link.ask_world({"type": "twin_restock"}))
    if isinstance(command, PeopleCommand):
        return _answer(command, await pendant.link.ask_world({"type": "twin_start"}))
    if isinstance(command, AnswerCommand):
        await _restock(pendant, command)
    body, final = request_of(pendant, login.name, command)
    if isinstance(command, GoToCommand):
        await pendant.device.held("goto")
    reply = await pendant.link.ask(body, final)
    if isinstance(command, PackmlCommand) and command.name == "Start" and reply.verdict == "done" and pendant.simulated:
        # People of a simulated world who wait for the run begin with it.
        pendant.link.tell_world({"type": "twin_start"})
    answer = _answer(command, reply)
    if isinstance(body, LoadRecipe) and reply.data:
        answer.analysis = pendant.recipes.remember(body.name, body.text, reply.data)
    return answer


def request_of(pendant: Pendant, person: str, command: Any) -> tuple[Any, float]:
    """Return the cell's request for a command, and how long its end is waited for, s."""
    if isinstance(command, LoadCommand):
        text = pendant.recipes.text(command.recipe)
        return LoadRecipe(command.recipe, text, command.settings, command.batches, person), LOAD_TIME
    if isinstance(command, GoToCommand):
        return GoTo(pendant.points.joints(command.point), command.point, person), 0.0
    if isinstance(command, AnswerCommand):
        question = pendant.feed.status.question if pendant.feed.status is not None else None
        if question is not None and question.id == command.question and question.kind == "recovery":
            return ChooseRecovery(command.question, command.choice, person), 2.0
        return AnswerConfirm(command.question, command.choice, person), 2.0
    if isinstance(command, ClearFaultCommand):
        return ClearFault(person), PERSON_TIME
    if isinstance(command, ConfirmClearCommand):
        return ConfirmClear(person), PERSON_TIME
    if isinstance(command, GripCommand):
        return ManualGrip(command.width, command.force, person), PERSON_TIME
    if isinstance(command, OutputCommand):
        return ManualOutput(command.name, command.value, person), PERSON_TIME
    return _plain(person, command), 2.0


def _plain(person: str, command: Any) -> Any:
    if isinstance(command, PackmlCommand):
        return Command(command.name, person)
    if isinstance(command, ModeCommand):
        return SetUnitMode(command.mode, person)
    if isinstance(command, OverrideCommand):
        return OverrideSpeed(command.value, person)
    if isinstance(command, AcknowledgeCommand):
        return AcknowledgeAlarm(command.code, person)
    if isinstance(command, SteppingCommand):
        return SetStepping(command.value, person)
    if isinstance(command, NextCommand):
        return NextPhase(person)
    assert isinstance(command, UnloadCommand)  # the last of the union
    return UnloadRecipe(person)


async def _restock(pendant: Pendant, command: AnswerCommand) -> None:
    """A yes that trays are full has a simulated world fill them, which on a real cell the person has done."""
    question = pendant.feed.status.question if pendant.feed.status is not None else None
    if pendant.simulated and question is not None and question.restocked and question.id == command.question:
        if question.choices and command.choice == question.choices[0]:
            await pendant.link.ask_world({"type": "twin_restock"})


def _answer(command: Any, reply: Reply) -> Answer:
    code = "refused" if reply.verdict in ("rejected", "failed") else ""
    return Answer(id=command.id, verdict=reply.verdict, reason=reply.reason, code=code)


def faults_of(error: ValidationError) -> ApiError:
    """Return what is wrong with a body as the API says it."""
    faults = [
        {"field": ".".join(str(part) for part in item["loc"] if part not in ("body",)), "message": str(item["msg"])}
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = faults[0] if faults else {"field": "", "message": "the request cannot be read"}
    return invalid(first["message"], first["field"], errors=faults)


def packml_view() -> dict[str, Any]:
    """The state machine as the page draws its buttons from it."""
    known = table()
    states = [
        {"name": name, "number": number, "kind": "acting" if name in known.acting else "wait"}
        for name, number in known.numbers.items()
    ]
    return {
        "states": states,
        "commands": list(get_args(CommandName)),
        "admitted": {name: list(known.admitted(name)) for name in known.numbers},
    }


def router(pendant: Pendant) -> APIRouter:
    """Return the endpoints."""
    routes = APIRouter(tags=["commands"])

    @routes.post("/commands")
    async def commands(command: AnyCommand, login: Who) -> Answer:
        """Do one thing; answered when the cell has answered."""
        answer = await execute(pendant, login, command)
        if answer.verdict in ("rejected", "failed"):
            error = ApiError(409, "refused", answer.reason, remedy=answer.remedy)
            if answer.analysis is not None:
                error.body["error"]["analysis"] = answer.analysis
            raise error
        return answer

    @routes.get("/packml")
    async def packml() -> dict[str, Any]:
        """States, commands, and which state admits which."""
        return packml_view()

    @routes.websocket("/command")
    async def command_socket(socket: WebSocket) -> None:
        """The same bodies, one JSON text each; the first message is `{csrf}`."""
        login: Login = socket.scope["login"]
        await socket.accept()
        try:
            if not await greeted(socket, login):
                return
            while True:
                await socket.send_text((await _one(pendant, login, await socket.receive_text())).model_dump_json())
        except (WebSocketDisconnect, RuntimeError, KeyError):
            return

    return routes


async def greeted(socket: WebSocket, login: Login) -> bool:
    """Wait for the first message, which proves that it is our own page that has opened the socket."""
    import hmac
    import json

    try:
        first = json.loads(await socket.receive_text())
        token = first["csrf"] if isinstance(first, dict) else None
    except (ValueError, KeyError):
        token = None
    if not isinstance(token, str) or not hmac.compare_digest(token.encode(), login.csrf.encode()):
        await socket.close(4403, "csrf")
        return False
    return True


async def _one(pendant: Pendant, login: Login, text: str) -> Answer:
    try:
        command = ADAPTER.validate_json(text)
    except ValidationError as error:
        return _rejected("", faults_of(error))
    try:
        pendant.logins.look(login, pendant.now())
        return await execute(pendant, login, command)
    except ApiError as error:
        return _rejected(command.id, error)


def _rejected(id: str, error: ApiError) -> Answer:
    fault = error.body["error"]
    field = f"{fault['field']}: " if fault["field"] else ""
    text = f"{field}{fault['message']}"
    return Answer(id=id, verdict="rejected", reason=text, remedy=fault["remedy"], code=error.code)
