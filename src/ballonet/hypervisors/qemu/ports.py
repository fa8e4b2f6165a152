"""A guest's virtio-serial ports, and the sockets on which QEMU serves them: where an agent in the guest can be heard."""

from collections.abc import Sequence
from typing import Final

from ballonet.hypervisors.qemu.answers import Chardev
from ballonet.hypervisors.qemu.qmp import QmpSession

_DEADLINE_S: Final = 1.0
_CLOSED: Final = "disconnected:"


async def port_sockets(session: QmpSession, devices: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The unix socket of each named port that has one. Raises HypervisorError as the session does.

    Args:
        session: with the guest's QEMU.
        devices: QOM path and type of each device, of qom-list.
    """
    ports = [path for path, kind in devices if kind == "child<virtserialport>"]
    if not ports:
        return {}
    chardevs = await session.call("query-chardev", list[Chardev], _DEADLINE_S)
    sockets = {chardev.label: path for chardev in chardevs if (path := socket_path(chardev.filename))}
    found = {}
    for port in ports:
        name = await session.call("qom-get", str, _DEADLINE_S, path=port, property="name")
        label = await session.call("qom-get", str, _DEADLINE_S, path=port, property="chardev")
        if label in sockets:
            found[name] = sockets[label]
    return found


def socket_path(filename: str) -> str | None:
    """The path in a chardev's `filename`, as QEMU writes that of a listening unix socket; None for anything else."""
    words = filename.removeprefix(_CLOSED)
    if not words.startswith("unix:") or ",server" not in words:
        return None  # a socket that QEMU connects to has another process at its other end
    return words.removeprefix("unix:").rsplit(",server", 1)[0]
