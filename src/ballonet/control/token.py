"""The token for clients over TCP, read anew when its file changes: a rotated one is in force without a restart."""

import hmac
import logging
import time
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from ballonet.control.answers import trouble
from ballonet.hypervisors.told import Told
from ballonet.model.settings import SettingsError

log = logging.getLogger(__name__)

SHORTEST_TOKEN: Final = 16
LOOK_S: Final = 1.0
"""Its file is looked at once in this time at most: strangers cause it."""


def read_token(path: str) -> str:
    """The token in a file. Raises SettingsError when there is none, others may read it, or it is too short."""
    try:
        file = Path(path)
        if file.stat().st_mode & 0o077:
            raise SettingsError(f"at `control.token_file`: others may read {path}; chmod 600 it")
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"at `control.token_file`: cannot read {path!r}: {error}; openssl rand -hex 32 makes a token"
        ) from error
    if len(token) < SHORTEST_TOKEN or not token.isascii():
        raise SettingsError(
            f"at `control.token_file`: less than {SHORTEST_TOKEN} plain characters; openssl rand -hex 32 makes a token"
        )
    return token


class TokenFile:
    """What is in the file now."""

    def __init__(self, path: str) -> None:
        """Args:
        path: of the file; it may be missing, and come later.
        """
        self._path = path
        self._next_look, self._seen = 0.0, (-1, -1, -1)
        self._token: str | None = None
        self._told = Told(log)
        self.trouble = ""
        """Why there is no token; empty = there is one."""
        self.look()

    def look(self) -> str | None:
        """The token; None = there is none that can be used, and nobody is let in."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            if (seen := _stamp(self._path)) != self._seen:
                self._seen = seen
                self._read()
        return self._token

    def _read(self) -> None:
        old = self._token
        try:
            self._token, self.trouble = read_token(self._path), ""
        except SettingsError as error:
            self._token, self.trouble = None, str(error)
            self._told.failed("nobody is let in over TCP", error, has_trace=False)
            return
        self._told.well("there is a token again; TCP is open")
        if old is not None and old != self._token:
            log.warning("token read anew; the old one is refused from now on", extra={"file": self._path})


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_mode


class TokenGate:
    """Lets in who names the token (RFC 6750)."""

    def __init__(self, app: ASGIApp, file: TokenFile) -> None:
        self._app, self._file = app, file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        if scope["type"] == "http":
            token = self._file.look()
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if token is None or not hmac.compare_digest(given, f"Bearer {token}".encode()):
                answer = trouble(401, "no token, or a wrong one; give it as `Authorization: Bearer TOKEN`")
                answer.headers["WWW-Authenticate"] = "Bearer"
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
