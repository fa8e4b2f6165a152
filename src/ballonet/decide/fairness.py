"""R10: who gets what when not everything fits: min-funding revocation with an idle tax (Waldspurger, OSDI'02).

A guest pays rho = S / (P (f + k (1 - f))) for each byte: S its shares, P what it holds, f how much of that it uses,
k = 1 / (1 - tax). Memory goes from the lowest rho to the highest until all that are within their bounds pay the same.
"""

from collections.abc import Callable, Sequence
from typing import Final

from ballonet.decide.seat import Seat

IDLE_TAX_SHARE: Final = 0.75
"""Of ESX (Mem.IdleTax). An idle byte costs four times as much as one in use."""
ROUNDS: Final = 60
"""Of halving: to less than a byte of any host."""


def weight(seat: Seat, tax_share: float = IDLE_TAX_SHARE) -> float:
    """What a guest may hold at the same price, relative to others."""
    active = min(1.0, seat.memory.used_bytes / max(1, seat.keep_bytes))
    k = 1 / (1 - tax_share)
    return max(1, seat.guest.shares) / (active + k * (1 - active))


def fund(seats: Sequence[Seat], amount: int, least: Callable[[Seat], int], most: Callable[[Seat], int]) -> None:
    """Divides `amount` so that all pay the same, each within its bounds; sets `wish_bytes`.

    When the least of all do not fit, each wishes its least: the guard decides by the budget then.
    """
    bounds = [(least(seat), max(least(seat), most(seat)), weight(seat)) for seat in seats]
    low, high = 0.0, max((top / heft for _, top, heft in bounds), default=0.0)
    for _ in range(ROUNDS):
        level = (low + high) / 2
        if sum(min(top, max(base, level * heft)) for base, top, heft in bounds) > amount:
            high = level
        else:
            low = level
    for seat, (base, top, heft) in zip(seats, bounds, strict=True):
        seat.wish_bytes = int(min(top, max(base, low * heft)))
