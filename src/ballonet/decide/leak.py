"""A guest that grows without end: told by name, since no controller can help it, and no neighbour is to pay for it (R10)."""

from typing import Final

from msgspec.structs import replace

from ballonet.decide.memory import GuestMemory

FALL_SHARE: Final = 0.03
"""Of the ceiling: a guest that frees this much of the most that it had taken does not only grow."""
STEP_SHARE: Final = 0.02
"""Of the ceiling: less of a rise is noise."""
PAUSE_S: Final = 60.0
"""A guest that has not grown for this long has come to rest; one that grew by much is believed that only when it frees some."""
RISE_SHARE: Final = 0.25
"""Of the ceiling: a smaller rise is one phase of a program."""
RISE_S: Final = 20.0
"""And so is one that lasted less: a service that starts or a query that sorts fills memory in seconds."""
END_SHARE: Final = 0.97
"""Of the ceiling: one that got that far has not come to rest, it has come to its end."""


def follow(memory: GuestMemory, ceiling_bytes: int, now: float) -> GuestMemory:
    """What is known of a guest's rise after fresh statistics. What it has paged out and not in again counts as used: leaked
    memory is cold, and the first to go.
    """
    demand = memory.use.said_bytes + memory.use.swap_out_bytes - memory.use.swap_in_bytes
    peak = memory.rise.rise_peak_bytes
    has_paused, has_fallen = now - memory.rise.rise_peak_at > PAUSE_S, demand < peak - FALL_SHARE * ceiling_bytes
    if has_fallen or (has_paused and peak - memory.rise.rise_from_bytes < RISE_SHARE * ceiling_bytes):
        if demand == memory.rise.rise_from_bytes == peak:
            return memory
        return replace(
            memory, rise=replace(memory.rise, rise_at=now, rise_from_bytes=demand, rise_peak_bytes=demand, rise_peak_at=now)
        )
    step = STEP_SHARE * ceiling_bytes
    if demand - peak < step:
        return memory
    begins_at = now if peak - memory.rise.rise_from_bytes < step else memory.rise.rise_at  # what went before was rest
    return replace(memory, rise=replace(memory.rise, rise_at=begins_at, rise_peak_bytes=demand, rise_peak_at=now))


def is_endless(memory: GuestMemory, ceiling_bytes: int, now: float) -> bool:
    """Whether a guest has done nothing but grow for long, and by much. A guest that has all that it asks for may do so."""
    risen, lasted_s = memory.rise.rise_peak_bytes - memory.rise.rise_from_bytes, memory.rise.rise_peak_at - memory.rise.rise_at
    goes_on = now - memory.rise.rise_peak_at <= PAUSE_S or memory.rise.rise_peak_bytes >= END_SHARE * ceiling_bytes
    return risen >= RISE_SHARE * ceiling_bytes and lasted_s >= RISE_S and goes_on
