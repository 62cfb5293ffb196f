"""Who is logged in where: session cookies, idle lock, limits on guessing. Pure: the time is handed in."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from cell.pendant.accounts import Language, Role, User, account_key

COOKIE = "cell_session"
LONGEST = 12 * 3600.0
"""A login ends after this, s."""
IDLE_LOCK = 600.0
"""Without anything being done the session locks after this, s."""
FAILURES, WINDOW = 5, 60.0
"""So many wrong passwords for one name from one address in so many seconds, then no more are looked at."""
ADDRESS_FAILURES = 30
"""The same for all names from one address."""
MOST_LOGINS = 200
MOST_COUNTED = 2000


@dataclass
class Login:
    """One browser in which somebody is logged in."""

    id: str
    """Not secret: names the login in control and events."""
    name: str
    role: Role
    language: Language
    csrf: str
    began: float
    active: float
    """When something was last done, s."""
    local: bool
    """The browser runs on the cell's own machine."""
    locked: bool = False
    ended: bool = field(default=False)


class Logins:
    """All logins of this life of the pendant; a restart logs everybody out."""

    def __init__(self, idle_lock: float = IDLE_LOCK) -> None:
        self.idle_lock = idle_lock
        self._by_token: OrderedDict[str, Login] = OrderedDict()

    def open(self, user: User, now: float, local: bool) -> tuple[str, Login]:
        """Log a person in; return the cookie's secret and the login."""
        token = secrets.token_urlsafe(32)
        login = Login(
            secrets.token_hex(8),
            user.name,
            user.role,
            user.language,
            secrets.token_urlsafe(24),
            now,
            now,
            local,
        )
        self._by_token[_digest(token)] = login
        while len(self._by_token) > MOST_LOGINS:
            self._by_token.popitem(last=False)[1].ended = True
        return token, login

    def find(self, token: str, now: float) -> Login | None:
        """Return the login of a cookie, locked if nothing was done for long; None if it has ended."""
        login = self._by_token.get(_digest(token))
        if login is None:
            return None
        if now - login.began > LONGEST:
            self.close(login)
            return None
        self.look(login, now)
        return login

    def look(self, login: Login, now: float) -> None:
        """Lock a login that has been idle."""
        if now - login.active > self.idle_lock:
            login.locked = True
        if now - login.began > LONGEST:
            self.close(login)

    def close(self, login: Login) -> None:
        """End a login; its cookie is worth nothing from now on."""
        login.ended = True
        for digest in [d for d, one in self._by_token.items() if one is login]:
            del self._by_token[digest]

    def close_person(self, name: str, but: Login | None = None) -> None:
        """End all logins of a person, after a change of role or password."""
        for login in [one for one in self._by_token.values() if account_key(one.name) == account_key(name)]:
            if login is not but:
                self.close(login)


class Attempts:
    """Counts wrong passwords."""

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def wait(self, name: str, address: str, now: float) -> float:
        """Return how long no password is looked at, s; 0 if one is."""
        one = self._left((account_key(name), address), FAILURES, now)
        return max(one, self._left(("", address), ADDRESS_FAILURES, now))

    def _left(self, key: tuple[str, str], most: int, now: float) -> float:
        times = self._failures.get(key)
        if times is None:
            return 0.0
        while times and now - times[0] > WINDOW:
            times.popleft()
        return WINDOW - (now - times[0]) if len(times) >= most else 0.0

    def failed(self, name: str, address: str, now: float) -> None:
        """Note a wrong password."""
        for key, most in (((account_key(name), address), FAILURES), (("", address), ADDRESS_FAILURES)):
            self._failures.setdefault(key, deque(maxlen=most)).append(now)
            self._failures.move_to_end(key)
        while len(self._failures) > MOST_COUNTED:
            self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """The last one noted was right: forget the wrong ones of this name, and this one of the address."""
        self._failures.pop((account_key(name), address), None)
        times = self._failures.get(("", address))
        if times:
            times.pop()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
