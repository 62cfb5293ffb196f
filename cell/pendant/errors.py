"""Errors of the API: a status, a stable code, and words a person can act on."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request that is not done; nothing has changed."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str = "",
        allowed: str = "",
        remedy: str = "",
        **more: Any,
    ) -> None:
        """`more`: further members of the error object."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.body: dict[str, Any] = {
            "error": {
                "code": code,
                "message": message,
                "field": field,
                "allowed": allowed,
                "remedy": remedy,
                **more,
            }
        }


def not_logged_in() -> ApiError:
    return ApiError(401, "not_logged_in", "nobody is logged in here", remedy="Log in")


def refused(message: str, remedy: str = "") -> ApiError:
    """The cell, or the state of things, does not admit it."""
    return ApiError(409, "refused", message, remedy=remedy)


def invalid(message: str, field: str = "", allowed: str = "", remedy: str = "", **more: Any) -> ApiError:
    return ApiError(422, "invalid", message, field, allowed, remedy, **more)


def missing(what: str) -> ApiError:
    return ApiError(404, "not_found", f"there is no {what}")


def cell_silent() -> ApiError:
    text = "the cell's controller does not answer"
    return ApiError(503, "cell_silent", text, remedy="See whether its node runs; use the emergency stop if in doubt")
