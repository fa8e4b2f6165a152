"""R13: which guests must be left alone, and why. No I/O: what was asked of QEMU and of the host comes in."""

from typing import Final

from ballonet.hypervisors.process import ProcessFacts

BOOT_S: Final = 120.0
"""A guest without a balloon driver after this long does not have one; before, it may still be booting."""
_MIGRATING: Final = frozenset({"setup", "active", "device", "postcopy-active", "pre-switchover"})
"""Of query-migrate (qapi/migration.json, MigrationStatus)."""
_MOVING: Final = frozenset({"inmigrate", "postmigrate", "finish-migrate"})
"""Of query-status (qapi/run-state.json, RunState)."""


def is_migrating(migration_status: str, run_state: str) -> bool:
    """Whether the guest is on its way to or from another host."""
    return migration_status in _MIGRATING or run_state in _MOVING


def why_alone(  # noqa: PLR0911 a list of reasons, one line each
    *,
    has_balloon: bool,
    has_driver: bool,
    has_vfio: bool,
    is_moving: bool,
    run_state: str,
    ceiling_bytes: int,
    facts: ProcessFacts | None,
) -> str:
    """Why the balloon of a guest cannot or must not be moved, in words; empty = it can.

    Args:
        has_balloon: whether QEMU has a balloon device for it.
        has_driver: whether the guest's driver has ever sent statistics.
        has_vfio: whether QEMU names a VFIO device.
        is_moving: `is_migrating`.
        run_state: of query-status.
        ceiling_bytes: what the guest has with its balloon empty.
        facts: what the host knows of its process; None = nothing.
    """
    if not has_balloon:
        return "it has no balloon device; add -device virtio-balloon-pci"
    if is_moving:
        return "it is being migrated"
    if run_state != "running":
        return f"it is not running ({run_state})"
    if has_vfio or (facts and facts.has_vfio):
        return "a device is passed through (VFIO), which pins its memory; give it an emulated or paravirtual device instead"
    if facts and facts.hugetlb_bytes:
        return "its memory is huge pages, of which a balloon frees none; start it with ordinary or transparent ones"
    if facts and facts.locked_bytes > ceiling_bytes // 2:
        return "its memory is locked (mlock), so a balloon frees none; start it without locked memory"
    if not has_driver:
        is_booting = facts is None or facts.age_s < BOOT_S
        return "it is still booting, or has no balloon driver" if is_booting else "no balloon driver answers in it"
    return ""
