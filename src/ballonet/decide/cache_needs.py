"""R17 in the needs of guests: which cache each needs, at which price, and what of it each gives up when not everything fits.

A guest's cache lies in layers: what is tried costs nothing, what its disk has shown has its price, what its operator has said
comes last. What it is guaranteed is needed as what it uses is.
"""

import math
from typing import Final

from ballonet.decide.seat import Layer, Seat
from ballonet.model.limits import Limits

ALIKE: Final = 4.0
"""Prices within this factor are the same: they are estimates, and two half caches miss less than one whole and none."""
ORDERED: Final = math.inf
"""The price of cache that an operator has said is needed."""
TRIED: Final = 0.0
"""Of what nobody has judged: tried, or claimed where nobody counts the reads."""


def add(taken: Seat, soon: int, lasting: int, limits: Limits) -> None:
    """Adds to a guest's needs the cache that it needs, by its operator or its disk.

    Args:
        taken: its seat, with its needs as they are without.
        soon: what it would need by itself, not raised to its floor or by anything else: cache lies within that.
        lasting: the same.
        limits: of every decision.
    """
    guest = taken.guest
    layers = _layers(taken, limits)
    if not layers:
        return
    wanted = sum(layer.bytes for layer in layers)
    most = guest.ceiling_bytes
    before = taken.need_lasting_bytes
    taken.need_lasting_bytes = min(most, max(before, lasting + wanted))
    taken.need_soon_bytes = min(most, max(taken.need_soon_bytes, soon + wanted))
    taken.cache_layers = _topped(layers, taken.need_lasting_bytes - before)
    owed = min(taken.cache_bytes, max(0, guest.guaranteed_bytes - taken.need_now_bytes))
    if owed:  # guaranteed is guaranteed, whatever it is used for
        taken.need_now_bytes += owed
        taken.proven_bytes = max(taken.proven_bytes, min(taken.need_now_bytes, taken.keep_bytes))
        taken.cache_layers = _topped(taken.cache_layers, taken.cache_bytes - owed)


def _layers(taken: Seat, limits: Limits) -> tuple[Layer, ...]:
    """Of its cache, the cheapest first."""
    guest, one = taken.guest, taken.memory.reread
    is_counted = guest.disk_reads is not None
    part = (1 if is_counted else 2) if limits.has("R17") else 0
    worth, tried = (one.worth_bytes // part, one.tries_bytes // part) if part else (0, 0)
    price = one.price if is_counted else TRIED
    said = guest.cache_bytes
    sizes = ((TRIED, tried - max(worth, said)), (price, worth - said), (ORDERED, said))
    return tuple(Layer(price, size) for price, size in sizes if size > 0)


def _topped(layers: tuple[Layer, ...], most: int) -> tuple[Layer, ...]:
    """The dearest of them, up to this much."""
    kept, left = [], most
    for layer in reversed(layers):
        if left > 0:
            kept.append(Layer(layer.price, min(layer.bytes, left)))
            left -= layer.bytes
    return tuple(reversed(kept))


def bound(taken: Seat) -> None:
    """After its needs were bound by what it may give and take: only what it can give up is cache."""
    most = taken.need_lasting_bytes - taken.need_now_bytes if taken.may_give else 0
    taken.cache_layers = _topped(taken.cache_layers, max(0, most))


def is_found(taken: Seat) -> bool:
    """Whether its disk has shown some of it."""
    return any(TRIED < layer.price < ORDERED for layer in taken.cache_layers)


def give_up(seats: list[Seat], pool: int, lacking: int) -> int:
    """Caches shrink before any margin does: first what is more than a guest's share leaves room for, then all, each time from the
    lowest price up. Gives how much of the needs has gone.

    Args:
        seats: among whom memory is divided.
        pool: bytes that are divided.
        lacking: what their needs are too much.
    """
    left = lacking
    shares = sum(seat.guest.shares or 1 for seat in seats)
    for by_share in (True, False):
        for alike in _by_price([seat for seat in seats if seat.cache_layers]) if left > 0 else ():
            offers = [(seat, price, _most(seat, size, pool, shares) if by_share else size) for seat, price, size in alike]
            offered = sum(most for _, _, most in offers)
            part = min(1.0, left / offered) if offered else 0.0
            for seat, _, most in offers:
                left -= _drop(seat, min(most, math.ceil(part * most)))
            if left <= 0:
                break
    return lacking - left if lacking > 0 else 0


def _most(seat: Seat, size: int, pool: int, shares: int) -> int:
    """What of a layer its share of all has no room for."""
    part = pool * (seat.guest.shares or 1) // shares
    return min(size, max(0, seat.need_lasting_bytes - part))


def _by_price(seats: list[Seat]) -> list[list[tuple[Seat, float, int]]]:
    """Their layers, in groups of about the same price, the lowest first."""
    groups: list[list[tuple[Seat, float, int]]] = []
    layers = [(seat, layer.price, layer.bytes) for seat in seats for layer in seat.cache_layers]
    for one in sorted(layers, key=lambda one: one[1]):
        if groups and one[1] <= ALIKE * groups[-1][0][1]:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _drop(seat: Seat, count: int) -> int:
    """Of its needs, from its cheapest layer on. Gives how much."""
    seat.cache_layers = _topped(seat.cache_layers, seat.cache_bytes - count)
    seat.cache_gone_bytes += count
    seat.need_lasting_bytes = max(seat.need_now_bytes, seat.need_lasting_bytes - count)
    seat.need_soon_bytes = max(seat.need_now_bytes, seat.need_soon_bytes - count)
    return count
