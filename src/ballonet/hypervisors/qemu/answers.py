"""What QEMU answers, as far as ballonet asks: checked forms of QMP replies (qapi/ in QEMU's source)."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

from ballonet.model.snapshot import GuestStats

ABSENT: Final = 2**64 - 1
"""How QMP writes a statistic that the guest did not send (hw/virtio/virtio-balloon.c, reset_stats)."""

Bytes = Annotated[int, Meta(ge=0, le=1 << 60)]
"""No guest has more than an exbibyte: what says so is no answer, and of that guest alone."""
Count = Annotated[int, Meta(ge=0, le=1 << 62)]
Nothing = dict[str, Any]
"""The answer to a command that returns nothing."""


class Name(Struct):
    """query-name."""

    name: str | None = None


class Uuid(Struct):
    """query-uuid."""

    uuid: str = field(name="UUID", default="")


class Triple(Struct):
    """A version's three numbers."""

    major: int
    minor: int
    micro: int


class Version(Struct):
    """query-version."""

    qemu: Triple


class Memory(Struct):
    """query-memory-size-summary, in bytes."""

    base: Bytes = field(name="base-memory")
    plugged: Bytes = field(name="plugged-memory", default=0)


class Balloon(Struct):
    """query-balloon, in bytes."""

    actual: Bytes


class MemoryDeviceData(Struct):
    """Of a virtio-mem device, in bytes; of a DIMM `size` alone."""

    id: str = ""
    size: Bytes = 0
    requested_size: Bytes = field(name="requested-size", default=0)
    max_size: Bytes = field(name="max-size", default=0)
    block_size: Bytes = field(name="block-size", default=1)


class MemoryDevice(Struct):
    """One line of query-memory-devices."""

    kind: str = field(name="type")
    data: MemoryDeviceData


class Status(Struct):
    """query-status."""

    status: str


class Migration(Struct):
    """query-migrate."""

    status: str = "none"


class DeviceStatus(Struct):
    """Part of x-query-virtio-status."""

    statuses: list[str] = []
    """Each bit that the guest's driver has set: its name, a colon, and words (virtio 1.2, 2.1)."""


class VirtioStatus(Struct):
    """x-query-virtio-status, since QEMU 7.2."""

    status: DeviceStatus = field(default_factory=DeviceStatus)


class Sev(Struct):
    """query-sev."""

    enabled: bool = False


class Object(Struct):
    """One line of qom-list."""

    name: str
    type: str


class Chardev(Struct):
    """One line of query-chardev."""

    label: str
    filename: str


class Stats(Struct):
    """The tags of guest-stats as QEMU names them, in bytes and counts."""

    total: int = field(name="stat-total-memory", default=ABSENT)
    free: int = field(name="stat-free-memory", default=ABSENT)
    available: int = field(name="stat-available-memory", default=ABSENT)
    cache: int = field(name="stat-disk-caches", default=ABSENT)
    swap_in: int = field(name="stat-swap-in", default=ABSENT)
    swap_out: int = field(name="stat-swap-out", default=ABSENT)
    major_faults: int = field(name="stat-major-faults", default=ABSENT)

    def known(self) -> GuestStats:
        """What the guest did send."""
        return GuestStats(
            total_bytes=_known(self.total),
            free_bytes=_known(self.free),
            available_bytes=_known(self.available),
            cache_bytes=_known(self.cache),
            swap_in_bytes=_known(self.swap_in),
            swap_out_bytes=_known(self.swap_out),
            major_faults=_known(self.major_faults),
        )


class BlockStats(Struct):
    """What a virtual disk has done since its QEMU began."""

    reads: Count = field(name="rd_operations", default=0)
    read_bytes: Count = field(name="rd_bytes", default=0)
    read_ns: Count = field(name="rd_total_time_ns", default=0)


class BlockDevice(Struct):
    """One line of query-blockstats; what lies below a device counts for it already."""

    stats: BlockStats = field(default_factory=BlockStats)


class Report(Struct):
    """The property guest-stats of a balloon device."""

    stats: Stats
    last_update: Annotated[int, Meta(le=1 << 62)] = field(name="last-update")
    """Whole seconds since 1970, on the host's clock; 0 = never."""


def _known(value: int) -> int | None:
    return value if 0 <= value < ABSENT else None
