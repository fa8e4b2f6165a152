"""What the API answers, as JSON."""

from typing import Any

from starlette.responses import Response

from ballonet.model.decode import encode
from ballonet.status.errors import Trouble


def answer(value: Any, status: int = 200) -> Response:
    """A value of `control.messages`."""
    return Response(encode(value), status, media_type="application/json")


def trouble(status: int, text: str) -> Response:
    """What is wrong, where, and what to do about it."""
    return answer(Trouble(error=text), status)
