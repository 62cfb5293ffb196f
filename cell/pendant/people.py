"""Endpoints of sessions, accounts and control."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cell.pendant.accounts import LANGUAGES, AccountError, Language, Role, User, check_length
from cell.pendant.errors import ApiError, invalid, refused
from cell.pendant.logins import COOKIE, Login
from cell.pendant.pendant import who
from safety.acceptance import AcceptanceError

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

Who = Annotated[Login, Depends(who)]
NameText = Annotated[str, Field(min_length=1, max_length=80)]
Secret = Annotated[str, Field(max_length=1000)]


class Body(BaseModel):
    """A request body: nothing unknown, no NaN, no infinities."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def check_plain(value: dict[str, Any]) -> dict[str, Any]:
    """What a body carries without a model of its own must be writable: finite, of 64 bits, real text."""
    try:
        json.dumps(value, allow_nan=False).encode()
        msgspec.msgpack.encode(value)
    except (ValueError, OverflowError, RecursionError, UnicodeError, TypeError) as error:
        raise ValueError(f"cannot be stored: {type(error).__name__}") from None
    return value


Plain = Annotated[dict[str, Any], AfterValidator(check_plain)]


class LoginBody(Body):
    name: NameText
    password: Secret


class PasswordBody(Body):
    password: Secret


class NewPasswordBody(Body):
    old: Secret
    new: Secret


class LanguageBody(Body):
    language: Language | None = None


class UserBody(Body):
    name: NameText
    role: Role
    password: Secret


class UserChange(Body):
    role: Role | None = None
    password: Secret | None = None
    disabled: bool | None = None


def account_error(error: AccountError) -> ApiError:
    return invalid(str(error), error.field, error.allowed)


def user_view(user: User) -> dict[str, Any]:
    return {"name": user.name, "role": user.role, "language": user.language, "disabled": user.disabled}


def session_view(pendant: Pendant, login: Login | None) -> dict[str, Any]:
    """What GET /session says."""
    user = None if login is None else {"name": login.name, "role": login.role, "language": login.language}
    return {
        "user": user,
        "csrf": None if login is None else login.csrf,
        "locked": login is not None and login.locked,
        "control": pendant.control.view("" if login is None else login.id),
        "first_run": pendant.accounts.fresh,
        "cell": {
            "name": pendant.cell.config.cell,
            "robot": pendant.cell.config.robot.driver,
            "model": pendant.model.name,
            "simulated": pendant.session.simulation_only,
            "fingerprint": pendant.session.file.fingerprint,
            "version": version("collabcell"),
        },
        "idle_lock_s": pendant.logins.idle_lock,
        "languages": list(LANGUAGES),
    }


async def check_password(pendant: Pendant, request: Request, name: str, password: str) -> User:
    """Return the person. Raises ApiError 429 after too many wrong ones, 401 for a wrong one."""
    address = request.client.host if request.client is not None else ""
    wait = pendant.attempts.wait(name, address, pendant.now())
    if wait > 0.0:
        raise ApiError(429, "too_many", "too many wrong passwords", remedy=f"Wait {wait:.0f} s")
    # Counted before it is looked at: many at once are no way round the limit.
    pendant.attempts.failed(name, address, pendant.now())
    user = await asyncio.to_thread(pendant.accounts.verify, name, password)
    if user is None:
        pendant.link.emit("pendant.login_failed", person=name[:40], address=address)
        raise ApiError(401, "not_logged_in", "name or password is wrong", "password")
    pendant.attempts.succeeded(name, address)
    return user


def session_routes(pendant: Pendant) -> APIRouter:
    """Log in and out, lock, language."""
    routes = APIRouter(tags=["session"])

    @routes.get("/session")
    async def session(request: Request) -> dict[str, Any]:
        """Who is logged in here, and what cell this is."""
        return session_view(pendant, request.scope["login"])

    @routes.post("/session")
    async def log_in(body: LoginBody, request: Request, response: Response) -> dict[str, Any]:
        """Log in; sets the cookie."""
        user = await check_password(pendant, request, body.name, body.password)
        old: Login | None = request.scope["login"]
        if old is not None:
            pendant.end(old, "logged in anew")
        local = request.client is not None and request.client.host in ("127.0.0.1", "::1")
        token, login = pendant.logins.open(user, pendant.now(), local)
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
        pendant.emit("pendant.login", login.name, role=login.role)
        return session_view(pendant, login)

    @routes.delete("/session")
    async def log_out(login: Who, response: Response) -> dict[str, Any]:
        """Log out; the cookie is worth nothing any more."""
        pendant.end(login, "logged out")
        response.delete_cookie(COOKIE, path="/")
        pendant.emit("pendant.logout", login.name)
        return session_view(pendant, None)

    @routes.post("/session/unlock")
    async def unlock(body: PasswordBody, login: Who, request: Request) -> dict[str, Any]:
        """Go on after the idle lock."""
        await check_password(pendant, request, login.name, body.password)
        login.locked, login.active = False, pendant.now()
        return session_view(pendant, login)

    @routes.post("/session/password")
    async def password(body: NewPasswordBody, login: Who, request: Request) -> dict[str, Any]:
        """Choose another password; other browsers of this person are logged out."""
        await check_password(pendant, request, login.name, body.old)
        try:
            check_length(body.new)
            # First the key: with the old password gone nobody could read it any more.
            await asyncio.to_thread(pendant.rekey, login.name, body.old, body.new)
            await asyncio.to_thread(pendant.accounts.set_password, login.name, body.new, True)
        except AccountError as error:
            raise account_error(error) from None
        except AcceptanceError as error:
            raise refused(str(error)) from None
        pendant.logins.close_person(login.name, but=login)
        pendant.emit("pendant.password", login.name)
        return session_view(pendant, login)

    @routes.patch("/session")
    async def change(body: LanguageBody, login: Who) -> dict[str, Any]:
        """Choose a language."""
        if body.language is not None:
            login.language = body.language
            await asyncio.to_thread(pendant.accounts.set_language, login.name, body.language)
        return session_view(pendant, login)

    return routes


def user_routes(pendant: Pendant) -> APIRouter:
    """Accounts, for admins."""
    routes = APIRouter(tags=["users"])

    @routes.get("/users")
    async def users() -> list[dict[str, Any]]:
        """Everybody who has an account."""
        return [user_view(user) for user in await asyncio.to_thread(pendant.accounts.all)]

    @routes.post("/users", status_code=201)
    async def add(body: UserBody, login: Who) -> dict[str, Any]:
        """Make an account."""
        try:
            user = await asyncio.to_thread(pendant.accounts.create, body.name, body.role, body.password)
        except AccountError as error:
            raise account_error(error) from None
        pendant.emit("pendant.user_added", login.name, user=user.name, role=user.role)
        return user_view(user)

    @routes.patch("/users/{name}")
    async def change_user(name: str, body: UserChange, login: Who) -> dict[str, Any]:
        """Change role or password, or disable; the person is logged out everywhere."""
        try:
            user = await asyncio.to_thread(pendant.accounts.get, name)
        except AccountError:
            raise ApiError(404, "not_found", f"{name} has no account") from None
        try:
            if body.password is not None:
                await asyncio.to_thread(pendant.accounts.set_password, name, body.password, False)
            user = await asyncio.to_thread(pendant.accounts.change, name, body.role, body.disabled)
        except AccountError as error:
            raise account_error(error) from None
        pendant.logins.close_person(user.name, but=login)
        changed = sorted(body.model_fields_set)
        pendant.emit("pendant.user_changed", login.name, user=user.name, role=user.role, changed=changed)
        return user_view(user)

    return routes


def control_routes(pendant: Pendant) -> APIRouter:
    """Single point of control."""
    routes = APIRouter(tags=["control"])

    def done(login: Login, what: Literal["taken", "requested", "given", "released", "refused"]) -> dict[str, Any]:
        pendant.emit("pendant.control", login.name, what=what)
        return pendant.control.view(login.id)

    @routes.post("/control/take")
    async def take(login: Who) -> dict[str, Any]:
        """Take control, or ask its holder for it."""
        held = pendant.control.take(pendant.seat(login), pendant.now(), pendant.wall())
        return done(login, "taken" if held else "requested")

    @routes.post("/control/give")
    async def give(login: Who) -> dict[str, Any]:
        """Hand control to whoever asks for it."""
        if not pendant.control.give(login.id, pendant.now(), pendant.wall()):
            raise refused("you do not hold control, or nobody asks for it")
        return done(login, "given")

    @routes.post("/control/release")
    async def release(login: Who) -> dict[str, Any]:
        """Give control up, or withdraw the own request."""
        if not pendant.control.release(login.id, pendant.now(), pendant.wall()):
            raise refused("you neither hold control nor ask for it")
        return done(login, "released")

    @routes.post("/control/refuse")
    async def refuse(login: Who) -> dict[str, Any]:
        """Decline a request for control."""
        if not pendant.control.refuse(login.id, pendant.now()):
            raise refused("you do not hold control, or nobody asks for it")
        return done(login, "refused")

    return routes
