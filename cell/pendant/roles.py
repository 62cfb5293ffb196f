"""One table: which role each endpoint asks for. What is not in it does not exist."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal, NamedTuple

from cell.pendant.accounts import Role

Least = Literal["anybody", "viewer", "operator", "programmer", "safety_engineer", "admin"]
BASE = "/api/v1"
_RANK = {"viewer": 0, "operator": 1, "programmer": 2}


class Rule(NamedTuple):
    """One endpoint."""

    method: str
    """HTTP method, or `WS`."""
    path: str
    """Below BASE; `{name}` stands for one segment."""
    least: Least
    locked: bool = False
    """Also while the session is locked."""


_TABLE = """
GET    /session                       anybody    locked
POST   /session                       anybody    locked
DELETE /session                       viewer     locked
POST   /session/unlock                viewer     locked
POST   /session/password              viewer
PATCH  /session                       viewer
GET    /users                         admin
POST   /users                         admin
PATCH  /users/{name}                  admin
POST   /control/take                  operator
POST   /control/give                  operator
POST   /control/release               operator   locked
POST   /control/refuse                operator
POST   /commands                      operator   locked
WS     /command                       operator   locked
GET    /packml                        viewer     locked
GET    /recipes                       viewer
POST   /recipes                       programmer
POST   /recipes/check                 viewer
GET    /recipes/{name}                viewer
PUT    /recipes/{name}                programmer
DELETE /recipes/{name}                programmer
POST   /recipes/{name}/analyse        operator
POST   /recipes/{name}/insert         programmer
GET    /recipes/{name}/picture.png    viewer
GET    /cell                          viewer     locked
GET    /meshes/{name}                 viewer     locked
GET    /cameras/{name}/picture.jpg    viewer
GET    /alarms                        viewer     locked
GET    /alarms/history                viewer
GET    /alarms/history.csv            viewer
GET    /runs                          viewer
GET    /runs/{id}                     viewer
GET    /runs/{id}/series              viewer
GET    /runs/{id}/timeline.png        viewer
GET    /series                        viewer     locked
GET    /oee                           viewer
GET    /events                        viewer
GET    /points                        viewer
POST   /points                        programmer
DELETE /points/{name}                 programmer
GET    /frames                        viewer
POST   /frames                        programmer
DELETE /frames/{name}                 programmer
WS     /jog                           programmer
GET    /safety                        viewer
POST   /safety/check                  viewer
POST   /safety/psd                    viewer
POST   /safety/diff                   viewer
GET    /safety/proposals              viewer
POST   /safety/proposals              safety_engineer
POST   /safety/proposals/{id}/accept  safety_engineer
POST   /safety/proposals/{id}/refuse  safety_engineer
POST   /safety/proposals/{id}/withdraw  safety_engineer
GET    /safety/history                viewer
WS     /telemetry                     viewer     locked
"""


def _rules() -> tuple[Rule, ...]:
    rows = [line.split() for line in _TABLE.strip().splitlines()]
    return tuple(Rule(row[0], row[1], row[2], len(row) > 3) for row in rows)  # type: ignore[arg-type]


RULES: tuple[Rule, ...] = _rules()


@cache
def _patterns() -> list[tuple[Rule, re.Pattern[str]]]:
    # Fixed segments first: `/recipes/check` is no recipe called check.
    ordered = sorted(RULES, key=lambda rule: rule.path.count("{"))
    return [(rule, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(rule.path)))) for rule in ordered]


def rule_for(method: str, path: str) -> Rule | None:
    """Return the rule of a request's method (`WS` for sockets) and full path, or None: there is nothing there."""
    if not path.startswith(BASE + "/"):
        return None
    method = "GET" if method == "HEAD" else method
    below = path[len(BASE) :]
    return next((rule for rule, pattern in _patterns() if rule.method == method and pattern.fullmatch(below)), None)


def permits(role: Role, least: Least) -> bool:
    """May somebody of this role do what asks for `least`?"""
    if least in ("anybody", "viewer"):
        return True
    if least in ("safety_engineer", "admin"):
        return role == least
    return _RANK.get(role, 0) >= _RANK[least]
