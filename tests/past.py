"""Ticks and changes as history keeps them."""

from pathlib import Path

from ballonet.decide.step import START, step
from ballonet.history.shelf import open_for_writing, packed
from ballonet.model.limits import Limits
from ballonet.model.snapshot import Guest, GuestStats, Host, Snapshot
from ballonet.model.tick import Tick
from ballonet.model.units import GIB, MIB
from ballonet.status.words import Change


def tick(at: float, used: int = GIB // 2, guests: int = 3) -> Tick:
    stats = GuestStats(total_bytes=2 * GIB, available_bytes=2 * GIB - used, free_bytes=0, cache_bytes=64 * MIB)
    seen = tuple(
        Guest(name=f"g{n}", ceiling_bytes=2 * GIB, keep_bytes=2 * GIB, resident_bytes=GIB, stats=stats, stats_age_s=0.1)
        for n in range(guests)
    )
    snapshot = Snapshot(host=Host(total_bytes=8 * GIB, available_bytes=4 * GIB), guests=seen)
    return Tick(at=at, snapshot=snapshot, plan=step(START, snapshot, Limits(), at)[1])


def change(at: float, guest: str = "g0") -> Change:
    return Change(at=at, guest=guest, reason="calm", keep_bytes=1, kept_bytes=2, is_command=False, sentence="keeps it")


def filled(path: Path, ats: list[float]) -> Path:
    connection = open_for_writing(path)
    with connection:
        connection.executemany("INSERT INTO ticks (at, data) VALUES (?, ?)", [(at, packed(tick(at))) for at in ats])
    connection.close()
    return path
