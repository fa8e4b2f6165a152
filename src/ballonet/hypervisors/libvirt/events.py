"""libvirt's event loop, in a thread of its own, for the whole process.

Not libvirtaio: that binds the first asyncio loop of a process for good, and a callback that blocks in libvirt would hold
up ours. Registered before the first connection, as libvirt asks for.
"""

import threading

import libvirt

_lock = threading.Lock()
_thread: threading.Thread | None = None


def start() -> None:
    """Begins to deliver events and keep-alives. May be called again."""
    global _thread  # noqa: PLW0603 one a process, as libvirt has it
    with _lock:
        if _thread is not None:
            return
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # errors are raised; stderr is the log's
        libvirt.virEventRegisterDefaultImpl()
        # Without any timer, a run of the loop would last until the next event.
        libvirt.virEventAddTimeout(1000, lambda _timer, _opaque: None, None)
        _thread = threading.Thread(target=_run, name="ballonet libvirt events", daemon=True)
        _thread.start()


def _run() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
