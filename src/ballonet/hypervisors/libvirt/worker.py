"""A thread of its own for calls that block: libvirt's do, for 30 s and more when one QEMU hangs."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ballonet.hypervisors.contract import NoAnswerError

T = TypeVar("T")
Job = tuple[asyncio.Future[Any], Callable[[], Any]]


class Worker:
    """Does one call after the other. A daemon thread: a call that hangs does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._name = name
        self._is_hung = False
        """A call was given up, and has not come back."""
        self._last: Callable[[], None] = lambda: None

    async def call(self, work: Callable[[], T], deadline_s: float) -> T:
        """What `work` gives.

        Raises:
            NoAnswerError: nothing in time; the call goes on, and what it gives is lost. At once while such a call goes on.
        """
        if self._is_hung:
            raise NoAnswerError(f"{self._name}: its last call has not come back")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"ballonet {self._name}", daemon=True)
            self._thread.start()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((future, work))
        try:
            async with asyncio.timeout(deadline_s):
                return await future
        except TimeoutError as error:
            self._is_hung = True
            raise NoAnswerError(f"{self._name}: no answer within {deadline_s:g} s") from error

    def close(self, last: Callable[[], None] = lambda: None) -> None:
        """Ends the thread, after `last`, when the call that it is in returns."""
        self._last = last
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work = job
            result, error = None, None
            try:
                result = None if future.done() else work()  # given up before it began
            except Exception as raised:  # noqa: BLE001 it is the caller's
                error = raised
            try:
                future.get_loop().call_soon_threadsafe(self._hand_over, future, result, error)
            except RuntimeError:  # the loop is closed: nobody waits
                break
        self._last()

    def _hand_over(self, future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
        self._is_hung = False
        if future.done():
            return  # given up
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
