"""The picture of one moment: the host and its guests, each number with its age and with who claims it.

Also the file format `ballonet.snapshot/1`: a snapshot encodes to it and decodes from it as it stands, so that any
moment can be written down, sent, and decided again.

Who claims a number: the **host** measured it itself (`resident_bytes`, `swapped_bytes`, `huge_bytes`, all of `Host`); the
**hypervisor** says so of its guest (`keep_bytes`); the **guest** says so of itself (`stats`). Only the first kind is a fact: what
a guest says may be late, absent or false.
"""

import enum
from typing import Any, Final

from msgspec import Struct

from ballonet.model.knobs import Knobs
from ballonet.model.room import Room

SNAPSHOT_SCHEMA: Final = "ballonet.snapshot/1"
NORMAL_SHARES: Final = 1000
"""Of a guest of which nobody says otherwise."""


class Mechanism(enum.Enum):
    """How memory moves."""

    BALLOON = "balloon"
    """A driver in the guest reserves pages and hands them to the host. Any amount, guest memory stays nominal."""
    VIRTIO_MEM = "virtio-mem"
    """Memory is plugged and unplugged in blocks: dynamic allocation, which is not ballooning."""


class Voice(enum.Enum):
    """How a guest is heard."""

    NONE = "none"
    BALLOON = "balloon"
    """By its balloon driver's statistics."""
    GUEST_AGENT = "qemu-guest-agent"
    HYPERVISOR = "hypervisor"
    """Not at all: its hypervisor samples what it uses."""
    AGENT = "agent"
    """By ballonet's own, which speaks by itself when memory runs out."""


class Mode(enum.Enum):
    """What ballonet does about a guest, or about the whole host."""

    OBSERVE = "observe"
    """Sense and record."""
    ADVISE = "advise"
    """Plan as well, and do nothing."""
    ACT = "act"
    """Plan and do."""


def least(one: Mode, other: Mode) -> Mode:
    """The mode that does less."""
    return min(one, other, key=list(Mode).index)


class GuestStats(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What a guest says of its own memory, by its balloon driver or an agent. None = it does not say.

    The first seven are those of virtio-balloon (virtio 1.2, section 5.5.6.3); swap_in, swap_out and major_faults
    count since the guest booted. Swap sizes are known from an agent only.
    """

    total_bytes: int | None = None
    """MemTotal. Shrinks with the balloon, unless the driver deflates on OOM (and never on Windows)."""
    free_bytes: int | None = None
    available_bytes: int | None = None
    """MemAvailable: what the guest can free without paging anonymous memory."""
    cache_bytes: int | None = None
    swap_total_bytes: int | None = None
    swap_free_bytes: int | None = None
    swap_in_bytes: int | None = None
    swap_out_bytes: int | None = None
    major_faults: int | None = None
    refaults: int | None = None
    """Pages of files that it read again after its kernel had dropped them (workingset_refault_file); from an agent only."""
    activations: int | None = None
    """Of those: such that would not have been dropped if the cache had all of its memory (workingset_activate_file)."""
    mglru: int | None = None
    """1 = its kernel ages pages by generations: its `activations` say nothing then, and its `refaults` little (Linux 6.1)."""
    psi_full_us: int | None = None
    """For how long all of its tasks stood waiting for memory since it booted, in microseconds (PSI); from an agent only."""
    rising_per_s: int | None = None
    """How fast `total_bytes - available_bytes` rose recently, bytes a second; from an agent that was looking closely only."""
    heap_missing_bytes: int | None = None
    """Heaps of its JVMs that are committed and not resident: a collector will walk what was paged out, and fill what was
    never touched. From an agent only."""


class Guest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One virtual machine."""

    name: str
    ceiling_bytes: int
    """What the guest has with its balloon empty. > 0."""
    keep_bytes: int | None = None
    """What it keeps now, by the hypervisor's word (QMP `query-balloon`). None = never heard."""
    keep_age_s: float = 0.0
    resident_bytes: int | None = None
    """What its RAM occupies of the host's ordinary memory now, as measured. Contains transparent huge pages, shared memory
    and memfds, and QEMU's own few dozen MiB where only the process as a whole is measured. Lacks what the host has swapped out
    (`swapped_bytes`), huge pages (`huge_bytes`), and what has not arrived yet of a guest that migrates here. None = cannot be
    measured: guest_memfd of confidential guests is in no count of the process (Documentation/virt/kvm/api.rst).
    """
    resident_age_s: float = 0.0
    swapped_bytes: int = 0
    """What the host has swapped out of it (VmSwap of proc(5), or memory.swap.current of its cgroup)."""
    huge_bytes: int = 0
    """What of its RAM is for huge pages of a pool, touched or not: no balloon frees them, and nobody else can be lent them."""
    disk_reads: int | None = None
    """Reads of its virtual disks since it was started, as the host counts them; None = nobody counts them."""
    disk_read_bytes: int | None = None
    disk_read_ns: int | None = None
    """What those waited, together."""
    disk_age_s: float = 0.0
    stats: GuestStats | None = None
    stats_age_s: float | None = None
    """Age of `stats`; None = unknown, which counts as too old."""
    voice: Voice = Voice.NONE
    """Who says so."""
    ready_share: float | None = None
    """Of what it was recently asked to make free, how much was free then, 0 to 1; None = it was not, or has no agent."""
    floor_bytes: int | None = None
    """The operator's floor. None = the operator set none."""
    guaranteed_bytes: int = 0
    """Comes first when not everything fits."""
    shares: int = NORMAL_SHARES
    """Weight among the guests when memory is divided. > 0."""
    mechanisms: tuple[Mechanism, ...] = (Mechanism.BALLOON,)
    """How its memory moves. One with both uses virtio-mem for coarse and the balloon for fine steps."""
    can_balloon: bool = True
    is_migrating: bool = False
    is_starting: bool = False
    """It boots, reboots or arrives from elsewhere: it may take all of its memory within moments, whatever its balloon is said to
    keep, until its driver speaks."""
    silence: str = ""
    """Why there are no fresh statistics, in words, where it is known; empty = they are fresh, or nobody knows."""
    limit_bytes: int | None = None
    """The most RAM that the host lets its process have, by a limit of its own; None = it has none."""
    given_bytes: int | None = None
    """What its hypervisor gave it, where an operator's ceiling or a limit of the host is lower; None = neither is."""
    headroom_bytes: int = 0
    """What the operator wants it to have free at any time, beyond what it uses."""
    cache_bytes: int = 0
    """Page cache that it lives on, by the operator's word: needed besides what it uses, and given up before anybody pages."""
    leave_alone: str = ""
    """Why the balloon of this guest cannot or must not be moved, in words; empty = it can."""
    deflates: str = ""
    """Why all of its memory is given back to it and nothing is taken of it, in words; empty = its operator has not ordered so."""
    mode: Mode = Mode.ACT
    tags: tuple[str, ...] = ()
    """What its hypervisor has it marked with, for settings that are meant for all guests of a kind."""
    uuid: str = ""
    """As the hypervisor knows it; empty = it has none. Joins with what others measure of the same guest."""
    hypervisor: str = ""
    """What runs it, with its version: `QEMU 7.2.22`."""
    reports_free_pages: bool | None = None
    """Whether its driver hands free pages to the host by itself (virtio 1.2, 5.5.6.5: page reporting); None = not known."""

    theirs: dict[str, int | str] = {}
    """What the hypervisor's own loop does with it, by its word and in its names; empty = it has none. In bytes; pressure, buffer
    and latency in percent; shares and priority are numbers."""
    knobs: Knobs | None = None
    """What that loop goes by for this guest, as it stands now; None = it has no such loop, and its balloon is sized."""
    knobs_before: Knobs | None = None
    """The same before ballonet changed it; None = it did not."""
    grows_to_bytes: int | None = None
    """How far above its ceiling of now the operator lets it grow, where a running guest's ceiling can be raised."""

    @property
    def measured_bytes(self) -> int | None:
        """What it has of the host's ordinary memory; None = nobody has measured it. A running guest always has some: 0 is a
        measure only where the rest is huge pages, or swapped out.
        """
        return self.resident_bytes if self.resident_bytes or self.huge_bytes or self.swapped_bytes else None

    @property
    def occupied_bytes(self) -> int | None:
        """What it has of the host: resident, and swapped out by the host. Never huge pages. None = cannot be measured."""
        measured = self.measured_bytes
        return None if measured is None else measured + self.swapped_bytes


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit around some guests that is tighter than the host: a slice, a container, whatever bounds a group of processes."""

    name: str
    """Where it is set: the path of a cgroup."""
    limit_bytes: int
    available_bytes: int
    """What the group can still take, page cache that the kernel drops first counted."""
    guests: tuple[str, ...]
    """Names of those within."""


class Host(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The machine that lends the memory. All measured by itself."""

    total_bytes: int
    """All of its memory that can be lent: what is set aside for huge pages is not."""
    available_bytes: int
    """What can be handed out without reclaim: MemAvailable plus what a ZFS ARC can shrink by, within the cgroup."""
    pressure_some_avg10_share: float = 0.0
    """Share of the last 10 s in which some task stood waiting for memory (PSI, Documentation/accounting/psi.rst)."""
    pressure_full_avg10_share: float = 0.0
    cpu_some_avg10_share: float = 0.0
    """The same for a CPU, and for the disk."""
    io_some_avg10_share: float = 0.0
    age_s: float = 0.0
    theirs: str = ""
    """The state of memory that the hypervisor's own loop sees, in its words."""
    huge_bytes: int = 0
    """Set aside for huge pages."""
    ksm_pages: int | None = None
    """How many pages KSM looks at a turn now; 0 = it is off, None = this host has none, or nobody asks."""
    budgets: tuple[Budget, ...] = ()
    """Limits around guests that bind besides the host's own memory."""


class Snapshot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One picture of a host: what a decision is made from."""

    schema: str = SNAPSHOT_SCHEMA
    host: Host
    guests: tuple[Guest, ...] = ()
    """Names are unique; the order is the adapter's, and a plan keeps it."""
    rooms: tuple[Room, ...] = ()
    """For VMs that are about to start, in the order in which they were asked for."""
    options: dict[str, float] = {}
    """The policy's own settings."""
    state: dict[str, Any] | None = None
    """What the last plan of a policy that remembers returned as its `state`."""
