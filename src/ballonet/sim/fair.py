"""What must hold of every guest, whatever policy decides: by what guests truly need, of which no controller is told.

1. No guest is below what it uses while the host has that much free.
2. Nobody holds more than its part while another lacks its own.

Both for guests that no fault hits, and only when they last: balloons take their time. The parts are divided here anew, by shares
among true needs, and not by what the policy made of them.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ballonet.model.tick import Tick
from ballonet.model.units import MIB
from ballonet.scenarios.scenario import Scenario
from ballonet.sim.guest import SimGuest
from ballonet.sim.ledger import EXTENT_BYTES
from ballonet.sim.world import SimWorld

LASTS_S: Final = 6.0
"""A look, a decision and some seconds of a balloon."""
LACK_SHARE: Final = 0.02
"""Of the ceiling: less than this beneath what it uses is nothing that pages."""
OVER_SHARE: Final = 0.06
"""Of the ceiling: more than this beyond its part, of which no margin was taken, is more than its part."""
RISE_SHARE: Final = 0.06
"""Of the ceiling: what one that cannot be moved may be expected to take."""
MARGIN_SHARE: Final = 0.05
"""Of the ceiling: the margin that is a guest's though it has not touched it yet: who has less than a part less margins lacks."""
RESERVE_PART: Final = 0.34
"""Of the reserve (R3): what stays free, when not everything fits, for those who have not asked for all of their parts."""
RESERVE_SHARE: Final = 0.03
"""Of a limit around some guests: the same."""
COLD_SHARE: Final = 0.05
"""Of its time: a guest that waits less for what it has paged out touches that too seldom to miss it."""
SPARE_EXTENTS: Final = 32
SPARE_SHARE: Final = 0.01
"""Of the ceiling: a guest that has this much to spare, or the above, reads back what it has paged out as it touches it."""
GATHER_S: Final = 30.0
"""How long it takes until donors have given what a guest took as it started."""
AFTER_S: Final = 60.0
"""For this long after it boots a guest has a past that misleads."""


class UnfairError(AssertionError):
    """One of the two does not hold."""


class FairWatch:
    """Looks at a world after each tick."""

    def __init__(self, scenario: Scenario) -> None:
        """Args:
        scenario: names the guests that faults hit.
        """
        self._hurt = {fault.guest for fault in scenario.faults}
        self._since: dict[str, float] = {}
        """By what does not hold: since when."""

    def look(self, at: float, tick: Tick, world: SimWorld) -> None:
        """Raises UnfairError when something has not held for LASTS_S."""
        if at < 0:
            return
        kept = tick.plan.reserve.bytes * RESERVE_PART
        self._lent(at, world)
        found = {**self._starved(world, kept), **self._unfair(world, kept)}
        self._since = {what: self._since.get(what, at) for what in found}
        for what, since in self._since.items():
            if at - since >= LASTS_S:
                raise UnfairError(f"at {at:.0f} s, for {at - since:.0f} s: {found[what]}")

    def _lacks(self, guest: SimGuest, part_bytes: float) -> float:
        """What a guest has less than it uses, or than its part; nothing while it has some to spare, or hardly touches what it has
        paged out. Page cache has no price here: what a guest has of it makes room for what it reads back.
        """
        is_cold = guest.script.has_swap and guest.waits_share < COLD_SHARE
        if is_cold or guest.memory.idle + guest.cache >= min(SPARE_EXTENTS, SPARE_SHARE * guest.memory.total):
            return 0.0
        return min(guest.need_bytes, part_bytes) - guest.keep_bytes

    def _lent(self, at: float, world: SimWorld) -> None:
        """No more is lent than there is. Nobody asked for room for a guest that starts and touches all; it is given some time."""
        if any(0 <= world.now - guest.began_at < GATHER_S for guest in world.guests):
            return
        over = world.used_bytes - world.ledger.total * EXTENT_BYTES
        idle = sum(
            max(0.0, guest.keep_bytes - _wants(guest) - OVER_SHARE * guest.script.memory_bytes)
            for guest in world.guests
            if self._is_well(guest, world.now) and guest.asked >= guest.memory.keep
        )
        # What guests that cannot be moved take by themselves is nobody's promise.
        if over > 2 * EXTENT_BYTES and idle > over:
            raise UnfairError(
                f"at {at:.0f} s: {over / MIB:.0f} MiB more are lent than there are, and {idle / MIB:.0f} MiB lie idle"
            )

    def _is_well(self, guest: SimGuest, now: float) -> bool:
        booted_at = guest.restarts_at
        return not (
            guest.is_gone
            or guest.script.name in self._hurt
            or guest.script.huge
            or guest.has_no_driver
            or now - booted_at < AFTER_S
        )

    def _starved(self, world: SimWorld, kept: float) -> dict[str, str]:
        free = world.host().available_bytes - self._spoken_for(world.guests) - kept
        rooms = dict[str, float]()
        for budget in world.host().budgets:
            inside = [world.by_name[name] for name in budget.guests]
            left = budget.available_bytes - self._spoken_for(inside) - RESERVE_SHARE * budget.limit_bytes
            rooms |= dict.fromkeys(budget.guests, left)
        found = {}
        for guest in world.guests:
            if not self._is_well(guest, world.now):
                continue
            lacks = self._lacks(guest, guest.need_bytes)
            name, here = guest.script.name, min(free, rooms.get(guest.script.name, free))
            if lacks > LACK_SHARE * guest.script.memory_bytes and here >= lacks:
                found[f"starved {name}"] = (
                    f"{name} keeps {lacks / MIB:.0f} MiB less than it uses, while the host has {here / MIB:.0f} MiB free"
                )
        return found

    def _spoken_for(self, guests: Iterable[SimGuest], starting: float = 1.0) -> float:
        """What is free and yet not to be had: promised to guests that cannot give it back, or may be touched at any moment.

        Args:
            guests: whose.
            starting: which share of its memory one that starts is taken to touch; promised to it is all (R4).
        """
        spoken = 0.0
        for guest in guests:
            name, memory = guest.script.name, guest.script.memory_bytes
            if guest.is_gone or guest.script.huge:
                continue
            if guest.is_starting:
                spoken += min(memory - guest.resident_bytes, starting * memory)
            elif guest.has_no_driver or guest.leave_alone:
                spoken += min(memory - guest.resident_bytes, RISE_SHARE * memory)
            elif name in self._hurt:
                spoken += max(0, guest.keep_bytes - guest.resident_bytes)
            else:  # what it takes next must be there before it asks
                spoken += min(max(0, guest.keep_bytes - guest.resident_bytes), MARGIN_SHARE * memory)
            if guest.host_swapped:
                spoken += guest.swapped_out * EXTENT_BYTES
        return spoken

    def _unfair(self, world: SimWorld, kept: float) -> dict[str, str]:
        well = [guest for guest in world.guests if self._is_well(guest, world.now)]
        fixed = world.guests_bytes - sum(guest.resident_bytes for guest in well)
        # Nobody's need is cut for what one that starts may never touch: parts count what it may be expected to take.
        pool = world.ledger.total * EXTENT_BYTES - world.own_bytes - fixed - self._spoken_for(world.guests, starting=RISE_SHARE)
        parts = _parts(well, pool)
        margins = sum(MARGIN_SHARE * guest.script.memory_bytes for guest in well)
        least = _parts(well, pool - margins - kept)
        inside = {name for budget in world.host().budgets for name in budget.guests}
        lacking = [
            guest for guest in well if self._lacks(guest, least[guest.script.name]) > LACK_SHARE * guest.script.memory_bytes
        ]
        found = {}
        for guest in well:
            name = guest.script.name
            over = guest.keep_bytes - parts[name] - OVER_SHARE * guest.script.memory_bytes
            # Without swap a balloon cannot get what is in use.
            can_give = guest.script.has_swap or guest.memory.idle + guest.cache > MARGIN_SHARE * guest.memory.total
            is_giving = guest.asked < guest.memory.keep or not can_give
            others = [one.script.name for one in lacking if (one.script.name in inside) == (name in inside)]
            if over > 0 and not is_giving and others:
                found[f"unfair {name}"] = (
                    f"{name} holds {over / MIB:.0f} MiB above its part of {parts[name] / MIB:.0f} MiB and gives nothing, while"
                    f" {others[0]} lacks some of its own"
                )
        return found


def _parts(guests: list[SimGuest], pool: float) -> Mapping[str, float]:
    """By shares among true needs: nobody more than it needs while another lacks, the rest to those that need more."""
    left, open_ones, parts = max(0.0, pool), list(guests), dict[str, float]()
    while open_ones:
        shares = sum(guest.script.shares for guest in open_ones)
        least = {guest.script.name: left * guest.script.shares / shares for guest in open_ones}
        done = [guest for guest in open_ones if _wants(guest) <= least[guest.script.name]]
        if not done:
            return parts | {
                guest.script.name: max(least[guest.script.name], guest.script.terms.floor_bytes or 0) for guest in open_ones
            }
        for guest in done:
            parts[guest.script.name] = _wants(guest)
            left -= _wants(guest)
        open_ones = [guest for guest in open_ones if guest not in done]
    # All fit: each has what it needs, and its share of the rest.
    shares = sum(guest.script.shares for guest in guests)
    return {guest.script.name: parts[guest.script.name] + left * guest.script.shares / shares for guest in guests}


def _wants(guest: SimGuest) -> float:
    return max(guest.need_bytes, guest.script.terms.floor_bytes or 0)
