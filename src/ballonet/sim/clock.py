"""A clock that jumps: an event loop in which waiting takes no time. Nothing outside of the process may be waited for."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class JumpingLoop(asyncio.SelectorEventLoop):
    """Runs whatever is ready; when nothing is, its clock jumps to the next timer. Starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._clock_resolution = 1e-9
        self._selector.select = self._jump  # type: ignore[attr-defined]  # where asyncio waits; there is no public place

    def time(self) -> float:
        """Seconds since the start."""
        return self._now

    def _jump(self, timeout_s: float | None = None) -> list[Any]:
        if timeout_s is None:
            raise RuntimeError("nothing is ready and nothing is due: the simulation waits for ever")
        self._now += max(0.0, timeout_s)
        return []


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` on a jumping clock."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(work)
