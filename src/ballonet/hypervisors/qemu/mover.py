"""Reads and moves what one guest keeps, by its balloon, its virtio-mem, or both (memory.py says which does what)."""

import time
from typing import Final

from ballonet.hypervisors.contract import RefusedError
from ballonet.hypervisors.qemu.answers import Balloon, Memory, MemoryDevice, MemoryDeviceData, Nothing
from ballonet.hypervisors.qemu.memory import Layout, VirtioMem, split
from ballonet.hypervisors.qemu.qmp import Call, NonsenseError, QmpSession
from ballonet.model.snapshot import Mechanism

_DEADLINE_S: Final = 1.0
STUCK_S: Final = 2.0
"""A virtio-mem that has not moved for this long on its way has unplugged all that it can for now (partial unplug)."""
STEP_BYTES: Final = 1 << 20
"""A smaller correction of the balloon is not worth a command."""


class Mover:
    """Of one guest, for one session."""

    def __init__(self, balloon_path: str, layout: Layout) -> None:
        """Args:
        balloon_path: of the balloon device in QOM; empty = it has none.
        layout: of its memory.
        """
        self._has_balloon = bool(balloon_path)
        self._base, device = layout.base, layout.device
        self._device = device
        self.layout = layout
        self.ceiling_bytes = layout.ceiling_bytes
        """The most that it has."""
        has = ((Mechanism.BALLOON, bool(balloon_path)), (Mechanism.VIRTIO_MEM, device is not None))
        self.mechanisms = tuple(mechanism for mechanism, is_there in has if is_there)
        """How its memory moves."""
        self._goal: int | None = None
        self._balloon: int | None = None
        """What the balloon was asked last."""
        self._moved_at = time.monotonic()

    async def keep_bytes(self, session: QmpSession) -> int:
        """What it keeps now. A balloon makes up for a virtio-mem that got stuck on its way. Raises HypervisorError."""
        plugged = self.layout.fixed
        if self._device is not None:
            self._note(await virtio_mem(session, self._device.path))
            plugged += self._device.size
            await self._follow(session)
        if self._has_balloon:
            return self.checked(await session.call("query-balloon", Balloon, _DEADLINE_S), plugged)
        return self.checked(Balloon(self._base), plugged)

    @property
    def is_plain(self) -> bool:
        """Whether its balloon is all that moves: what it keeps is one answer then."""
        return self._has_balloon and self._device is None

    def checked(self, balloon: Balloon, plugged: int | None = None) -> int:
        """What it keeps by what QEMU says of its balloon. Raises NonsenseError when that cannot be."""
        plugged = self.layout.fixed if plugged is None else plugged
        actual = balloon.actual
        if not 0 < actual + plugged <= self.ceiling_bytes:
            raise NonsenseError(f"query-balloon: it keeps {actual + plugged} of {self.ceiling_bytes} bytes")
        return actual + plugged

    async def set_keep(self, session: QmpSession, keep_bytes: int, deadline_s: float) -> None:
        """Asks for `keep_bytes`. Raises HypervisorError."""
        self._goal, self._moved_at = keep_bytes, time.monotonic()
        wanted = split(keep_bytes, self._base, self._device, is_stuck=False)
        if self._device is not None:
            path = self._device.path
            await session.call("qom-set", Nothing, deadline_s, path=path, property="requested-size", value=wanted.requested)
        await self._ask_balloon(session, wanted.balloon, deadline_s)

    def _note(self, seen: VirtioMem | None) -> None:
        if seen is None:
            raise RefusedError("its virtio-mem is gone")
        if self._device is None or seen.size != self._device.size:
            self._moved_at = time.monotonic()
        self._device = seen

    async def _follow(self, session: QmpSession) -> None:
        if self._goal is None or self._device is None:
            return
        is_on_its_way = self._device.size > self._device.requested
        is_stuck = is_on_its_way and time.monotonic() - self._moved_at > STUCK_S
        if is_on_its_way and not is_stuck:
            return
        balloon = split(self._goal, self._base, self._device, is_stuck=is_stuck).balloon
        if self._balloon is None or abs(balloon - self._balloon) >= STEP_BYTES:
            await self._ask_balloon(session, balloon, _DEADLINE_S)

    async def _ask_balloon(self, session: QmpSession, balloon: int, deadline_s: float) -> None:
        if self._has_balloon:
            await session.call("balloon", Nothing, deadline_s, value=balloon)
            self._balloon = balloon


SEVERAL: Final = "it has several virtio-mem devices, and which of them gives first is not known; give it one, or leave it alone"


LAYOUT: Final = (Call("query-memory-size-summary", Memory), Call("query-memory-devices", list[MemoryDevice]))
"""What is asked for `layout_of`."""


def layout_of(memory: Memory, devices: list[MemoryDevice]) -> Layout:
    """How the guest's memory is put together now. Raises NonsenseError when that cannot be."""
    base = memory.base + sum(one.data.size for one in devices if one.kind == "dimm")
    if base <= 0:
        raise NonsenseError(f"query-memory-size-summary: a guest of {base} bytes")
    found = [_device(one.data) for one in devices if one.kind == "virtio-mem"]
    if len(found) == 1 and found[0].path:
        return Layout(base, found[0])
    why = SEVERAL if len(found) > 1 else "its virtio-mem has no id, so it cannot be asked; give it one" if found else ""
    return Layout(base, None, sum(one.size for one in found), why)


async def virtio_mem(session: QmpSession, path: str) -> VirtioMem | None:
    """The guest's virtio-mem device at `path`; None = it is gone. Raises HypervisorError."""
    devices = await session.call("query-memory-devices", list[MemoryDevice], _DEADLINE_S)
    found = (_device(one.data) for one in devices if one.kind == "virtio-mem")
    return next((one for one in found if one.path == path), None)


def _device(data: MemoryDeviceData) -> VirtioMem:
    """One without an id has no path: it cannot be asked for anything."""
    path = f"/machine/peripheral/{data.id}" if data.id else ""
    return VirtioMem(path, data.size, data.requested_size, data.max_size, max(1, data.block_size))
