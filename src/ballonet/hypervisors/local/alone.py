"""R13: which guests must be left alone, and why. No I/O: what was asked of QEMU and of the host comes in."""

from collections.abc import Iterable
from typing import Final

from ballonet.hypervisors.local.process import ProcessFacts

BOOT_S: Final = 120.0
"""A guest without a balloon driver after this long does not have one; before, it may still be booting."""
_ENDED: Final = frozenset({"", "none", "completed", "failed", "cancelled"})
"""Of query-migrate (qapi/migration.json, MigrationStatus): a clear end, or none begun. Whatever else there is, or will be, is a
migration: post-copy that waits, COLO, one that is being cancelled."""
_ARRIVING: Final = frozenset({"inmigrate", "prelaunch", "restore-vm"})
_MOVING: Final = frozenset({"inmigrate", "postmigrate", "finish-migrate", "colo"})
"""Of query-status (qapi/run-state.json, RunState)."""
PASSED: Final = "a device is passed through (VFIO), which pins its memory; give it an emulated or paravirtual device instead"
WHY: Final = {
    "vfio": PASSED,
    "vhost-vdpa": "a device is passed through (vDPA), which pins its memory; give it a vhost or paravirtual device instead",
    "kvm-gmem": "its memory is private to it (guest_memfd of SEV-SNP or TDX), so a balloon frees none; it counts as taken",
    "sev": "its memory is encrypted (SEV), which pins it; its memory counts as taken",
    "confidential": "its memory is encrypted (SEV, SEV-SNP, TDX or Protected Virtualization), which pins it; it counts as taken",
    "colo": "it runs in lockstep with a copy (COLO), for which QEMU inhibits balloons",
}
"""By what was found: what makes QEMU inhibit a balloon (ram_block_discard_disable in its source), with the remedy."""


RESETTING: Final = "it is starting anew, and may take all of its memory; its balloon counts again when its driver speaks"


def is_migrating(migration_status: str, run_state: str) -> bool:
    """Whether the guest is on its way to or from another host."""
    return migration_status not in _ENDED or run_state in _MOVING


def is_arriving(run_state: str) -> bool:
    """Whether it has yet to begin: it may take all of its memory."""
    return run_state in _ARRIVING


def is_booting(*, has_driver: bool, facts: ProcessFacts | None) -> bool:
    """Whether a guest that has no driver yet may still be on its way to one."""
    return not has_driver and (facts is None or facts.age_s is None or facts.age_s < BOOT_S)


def why_alone(  # noqa: PLR0911 a list of reasons, one line each
    *,
    has_balloon: bool,
    has_driver: bool,
    is_moving: bool,
    run_state: str,
    ceiling_bytes: int,
    facts: ProcessFacts | None,
    pins: Iterable[str] = (),
    is_resetting: bool = False,
    unknown_memory: str = "",
    is_new: bool = False,
) -> str:
    """Why the balloon of a guest cannot or must not be moved, in words; empty = it can.

    Args:
        has_balloon: whether QEMU has a balloon device for it.
        has_driver: whether the guest's driver has ever sent statistics.
        is_moving: `is_migrating`.
        run_state: of query-status.
        ceiling_bytes: what the guest has with its balloon empty.
        facts: what the host knows of its process; None = nothing.
        pins: what the hypervisor says that pins its memory, by names of `WHY`.
        is_resetting: whether it was reset, and its driver has not spoken since.
        unknown_memory: how its memory is made up, where that is not modelled.
        is_new: whether nobody can have heard its driver yet: it was met just now.
    """
    if not has_balloon:
        return "it has no balloon device; add -device virtio-balloon-pci"
    if is_moving:
        return "it is being migrated"
    if run_state != "running":
        return f"it is not running ({run_state})"
    if pinned := sorted({*pins, *(facts.pins if facts else ())}, key=list(WHY).index):
        return WHY[pinned[0]]
    if facts and facts.hugetlb_bytes:
        return "its memory is huge pages, of which a balloon frees none; start it with ordinary or transparent ones"
    if facts and facts.locked_bytes > ceiling_bytes // 2:
        return "its memory is locked (mlock), so a balloon frees none; start it without locked memory"
    if unknown_memory:
        return unknown_memory
    if is_resetting:
        return RESETTING
    if not has_driver:
        is_on_its_way = is_booting(has_driver=has_driver, facts=facts)
        return NOT_HEARD if is_new else BOOTING if is_on_its_way else NO_DRIVER
    return ""


HEAR_S: Final = 5.0
"""After it was met: a driver that is there speaks within a second or two of being asked to."""
NOT_HEARD: Final = "its balloon driver has not been heard yet; wait: it is asked since moments ago"
BOOTING: Final = "it is still booting, or has no balloon driver; wait: it takes part as soon as that answers"
NO_DRIVER: Final = (
    "no balloon driver answers in it; load it (Linux: modprobe virtio_balloon; Windows: virtio-win's balloon and BLNSVR)"
)
