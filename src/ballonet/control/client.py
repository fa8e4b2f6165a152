"""The command line's end of the control API."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import msgspec

from ballonet.control.routes import LIVE, Route
from ballonet.model.decode import decode, encode
from ballonet.status.errors import ControlError, Trouble
from ballonet.status.words import Status

T = TypeVar("T")

ANSWER_S: Final = 30.0


class NoDaemonError(ControlError):
    """Nobody answers at the socket."""


class Client:
    """One connection to the daemon of this host."""

    def __init__(self, path: Path) -> None:
        """Args:
        path: of the control socket.
        """
        self._path = path
        # No TLS on a Unix socket, and neither proxies nor certificates of the environment are meant for it.
        transport = httpx.HTTPTransport(uds=str(path), verify=False, trust_env=False)
        self._http = httpx.Client(transport=transport, base_url="http://ballonet", timeout=ANSWER_S, trust_env=False)

    def ask(self, route: Route[T], name: str = "", /, *, body: Any = None, **query: Any) -> T:
        """One request and its checked answer.

        Args:
            route: of the table.
            name: the guest's, where the route is about one.
            body: as the route says.
            query: the same.

        Raises:
            NoDaemonError: nobody there, or not allowed in.
            ControlError: the daemon says no.
        """
        self._reach()
        given = {name: value for name, value in query.items() if value is not None}
        content = None if body is None else encode(body)
        try:
            answer = self._http.request(route.method, route.of(name), params=given, content=content)
        except httpx.HTTPError as error:
            raise self._nobody(error) from error
        if answer.is_success:
            return decode(answer.content, route.returns)
        raise ControlError(_text(answer))

    def live(self) -> Iterator[Status]:
        """The status at each tick. Raises NoDaemonError when the daemon ends."""
        self._reach()
        try:
            with self._http.stream("GET", LIVE) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        yield msgspec.json.decode(line[6:], type=Status)
        except httpx.HTTPError as error:
            raise self._nobody(error) from error

    def close(self) -> None:
        """Hangs up."""
        self._http.close()

    def _reach(self) -> None:
        """Whether anybody is there: the library's errors do not say why not, and leave their socket open."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ANSWER_S)
            try:
                sock.connect(str(self._path))
            except PermissionError as error:
                raise NoDaemonError(f"{self._path}: not allowed; be root, or in the group of that socket") from error
            except OSError as error:
                raise self._nobody(error) from error

    def _nobody(self, error: Exception) -> NoDaemonError:
        return NoDaemonError(
            f"no daemon answers at {self._path} ({error}); start one: `ballonet run`, or systemctl start ballonet"
        )


def _text(answer: httpx.Response) -> str:
    try:
        return msgspec.json.decode(answer.content, type=Trouble).error
    except msgspec.DecodeError:
        return f"HTTP {answer.status_code}"
