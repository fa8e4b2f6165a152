"""What QEMU says that a guest is made of: its devices, its memory, what pins that, and what only people want to know."""

import contextlib
from typing import Final, NamedTuple

from ballonet.hypervisors.contract import RefusedError
from ballonet.hypervisors.qemu.answers import Object, Sev, Uuid, Version, VirtioStatus
from ballonet.hypervisors.qemu.memory import Layout
from ballonet.hypervisors.qemu.mover import LAYOUT, layout_of
from ballonet.hypervisors.qemu.qmp import Call, QmpSession

DEADLINE_S: Final = 1.0
FOLDERS: Final = ("/machine/peripheral", "/machine/peripheral-anon")
"""Where QOM has devices that were named, and those that were not."""
PINS: Final = (("vfio", "child<vfio-"), ("vhost-vdpa", "child<vhost-vdpa"))
"""What is passed through, and the types of such devices."""
CONFIDENTIAL: Final = ("child<sev-", "child<tdx-", "child<s390-pv-", "child<pef-", "child<arm-rme-")
"""Types of objects that encrypt a guest's memory (qapi/qom.json, ObjectType)."""

SET_UP: Final = "VIRTIO_CONFIG_S_DRIVER_OK"
"""What a driver that has set a device up leaves in its status (virtio 1.2, 2.1)."""


class Described(NamedTuple):
    """What changes when something is plugged in or out."""

    devices: list[tuple[str, str]]
    """Paths in QOM, with their types."""
    layout: Layout

    @property
    def balloon_path(self) -> str:
        """Of the balloon device; empty = it has none."""
        return next((path for path, kind in self.devices if kind.startswith("child<virtio-balloon")), "")

    @property
    def pins(self) -> frozenset[str]:
        """What of it pins its memory."""
        return frozenset(pin for pin, mark in PINS if any(kind.startswith(mark) for _, kind in self.devices))


async def described(session: QmpSession) -> Described:
    """What it is made of now. Raises HypervisorError."""
    lists = (Call("qom-list", list[Object], {"path": folder}) for folder in FOLDERS)
    *folders, memory, plugged = await session.calls(DEADLINE_S, *lists, *LAYOUT)
    devices = [(f"{folder}/{one.name}", one.type) for folder, objects in zip(FOLDERS, folders, strict=True) for one in objects]
    return Described(devices, layout_of(memory, plugged))


async def is_confidential(session: QmpSession) -> bool:
    """Whether its memory is encrypted. A QEMU that does not say is taken for one that does not. Raises HypervisorError."""
    found = False
    with contextlib.suppress(RefusedError):
        objects = await session.call("qom-list", list[Object], DEADLINE_S, path="/objects")
        found = any(one.type.startswith(CONFIDENTIAL) for one in objects)
    with contextlib.suppress(RefusedError):
        found |= (await session.call("query-sev", Sev, DEADLINE_S)).enabled
    return found


async def uuid_of(session: QmpSession) -> str:
    """Its UUID; empty = it has none, or QEMU does not say. Raises HypervisorError."""
    with contextlib.suppress(RefusedError):
        uuid = (await session.call("query-uuid", Uuid, DEADLINE_S)).uuid
        return uuid if uuid.strip("0-") else ""
    return ""


async def version_of(session: QmpSession) -> str:
    """`QEMU 7.2.22`. Raises HypervisorError."""
    with contextlib.suppress(RefusedError):
        qemu = (await session.call("query-version", Version, DEADLINE_S)).qemu
        return f"QEMU {qemu.major}.{qemu.minor}.{qemu.micro}"
    return ""


async def reports_free_pages(session: QmpSession, balloon_path: str) -> bool | None:
    """Whether its driver hands free pages to the host by itself; None = QEMU does not say. Raises HypervisorError."""
    if balloon_path:
        with contextlib.suppress(RefusedError):
            return await session.call("qom-get", bool, DEADLINE_S, path=balloon_path, property="free-page-reporting")
    return None


async def is_set_up(session: QmpSession, balloon_path: str) -> bool | None:
    """Whether a driver has set the balloon device up; None where a QEMU of before 7.2 does not say. Raises HypervisorError."""
    try:
        told = await session.call("x-query-virtio-status", VirtioStatus, DEADLINE_S, path=f"{balloon_path}/virtio-backend")
    except RefusedError:
        return None
    return any(one.startswith(SET_UP) for one in told.status.statuses)
