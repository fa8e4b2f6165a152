"""R10: who gets what when not everything fits: min-funding revocation (Waldspurger, OSDI'02).

A guest pays S / P for each byte: S its shares, P what it holds. Memory goes from the lowest price to the highest until all that
are within their bounds pay the same. Waldspurger taxes idle memory at three quarters; here none is claimed at all: what a guest
asks for is the least that it needs.
"""

from collections.abc import Callable, Sequence

from ballonet.decide.seat import Seat

Claim = tuple[float, float, float, float]
"""What one gets at a level x: `offset + slope * x`, but at least `least` and at most `most`; as (least, most, offset, slope),
slope > 0."""


def at_level(claim: Claim, level: float) -> float:
    """What a claim gets at a level."""
    least, most, offset, slope = claim
    wanted = offset + slope * level
    return most if wanted > most else wanted if wanted > least else least


def fill(claims: Sequence[Claim], amount: float) -> float:
    """The level at which claims take up `amount`, as water finds one: exact, by a sweep over where each begins and ends to
    rise. O(n log n), 1 ms for 1,000 claims.

    When even the least of all do not fit, a level at which each gets its least; when all fit, one at which each gets its most.
    """
    total, events = 0.0, list[tuple[float, float]]()
    for least, most, offset, slope in claims:
        total += least
        events += (((least - offset) / slope, slope), ((most - offset) / slope, -slope))
    if not events:
        return 0.0
    events.sort()
    rate, level = 0.0, events[0][0]
    if total > amount:
        return level
    for at, slope in events:
        more = rate * (at - level)
        if total + more > amount:
            return min(at, level + (amount - total) / rate)
        total, level = total + more, at
        rate += slope
    return level


def fund(seats: Sequence[Seat], amount: int, least: Callable[[Seat], int], most: Callable[[Seat], int]) -> float:
    """Divides `amount` so that all pay the same, each within its bounds; sets `wish_bytes`. Gives the level: what one share gets
    at that price, in bytes.

    When the least of all do not fit, each wishes its least: the guard decides by the budget then.
    """
    claims = [(base := least(seat), max(base, most(seat)), 0.0, float(seat.guest.shares or 1)) for seat in seats]
    level = fill(claims, amount)
    for seat, claim in zip(seats, claims, strict=True):
        seat.wish_bytes = int(at_level(claim, level))
    return level
