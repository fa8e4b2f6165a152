"""The ladder beyond the balloon (R14): what else a host that runs out of memory may do, each step off until it is allowed.

From state soft on KSM may look for equal pages; in hard and low guests that hold more than they need may be paged out by the
host, into zswap or swap. The guard is the balloon's: nobody below its need or floor, nobody in distress or of whom the news is
old, nobody who is on hold or left alone.
"""

from typing import Final

from ballonet.decide.states import ALARMING, SCARCE
from ballonet.model.limits import Limits
from ballonet.model.plan import Decision, Emergency, Plan, Reason
from ballonet.model.snapshot import Guest, Mode, Snapshot
from ballonet.model.units import MIB

PERIOD_S: Final = 10.0
"""Between two steps of KSM. ksmtuned takes 60 s, on hosts where nothing else reacts."""
KSM_BOOST: Final = 300
KSM_DECAY: Final = 50
KSM_LEAST: Final = 64
KSM_MOST: Final = 1250
"""Pages that KSM looks at between two of its sleeps: as ksmtuned.conf has them (KSM_NPAGES_BOOST, _DECAY, _MIN, _MAX)."""
RECLAIM_MOST_BYTES: Final = 256 * MIB
"""Of one guest in one step: the kernel pages out as it goes, and the next step sees what came of it."""
_PEACE: Final = frozenset(
    {Reason.DISTRESS, Reason.FEEDBACK, Reason.SHORT, Reason.STALE, Reason.ALONE, Reason.UNKNOWN, Reason.OBSERVED, Reason.DEFLATE}
    | {Reason.ENTITLED, Reason.BOUNDED}  # no guests of this host
)
"""Of guests with these nothing is taken."""


def emergency(plan: Plan, snapshot: Snapshot, limits: Limits) -> Emergency:
    """The next steps of the ladder.

    Args:
        plan: of this tick.
        snapshot: that it was made from.
        limits: what the operator allows.
    """
    may_merge = limits.may_ksm and snapshot.host.ksm_pages is not None
    return Emergency(
        ksm_pages=_ksm(plan.host_state, snapshot.host.ksm_pages or 0) if may_merge else None,
        reclaim=_reclaim(plan, snapshot) if limits.may_reclaim and plan.host_state in ALARMING else {},
    )


def _ksm(state: str, pages: int) -> int:
    if state in SCARCE:
        return min(KSM_MOST, max(KSM_LEAST, pages) + KSM_BOOST)
    if state == "high":
        return pages - KSM_DECAY if pages - KSM_DECAY > KSM_LEAST else 0
    return pages


def _reclaim(plan: Plan, snapshot: Snapshot) -> dict[str, int]:
    """From those that hold most beyond their need, as much as the host lacks of its reserve."""
    left = plan.reserve.bytes - snapshot.host.available_bytes
    spare = [(_spare(guest, one), guest.name) for guest, one in zip(snapshot.guests, plan.guests, strict=True)]
    found = {}
    for bytes_, name in sorted(spare, reverse=True):
        taken = min(bytes_, left, RECLAIM_MOST_BYTES)
        if taken < MIB:
            break
        found[name] = taken
        left -= taken
    return found


def _spare(guest: Guest, decision: Decision) -> int:
    if decision.reason in _PEACE or guest.mode is not Mode.ACT or decision.need_bytes is None or guest.resident_bytes is None:
        return 0
    return guest.resident_bytes - max(decision.need_bytes, decision.floor_bytes)
