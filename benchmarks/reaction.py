"""From a spike in a real guest to the first command for it, by voice, into benchmarks/results/reaction.json; about 9 minutes.

Fifty-five spikes for each voice: five guests that live at what they need take 4 GiB more (at 1/32) at 2 GiB/s, one after the
other, and let it go again. Measured from the moment at which a guest's memory is below the line where the host wants to know
(`Look.wake_below_bytes`, for all voices the same), as its workload tells: at the end of each tenth of a second in which it took
more memory. Relief is when the guest keeps what it uses at its peak, which it reaches 2 s after it began.
"""

import asyncio
import datetime as dt
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from ballonet.lab.arm import Progress
from ballonet.lab.run import run_arms
from ballonet.model.result import Result
from ballonet.model.settings import Size
from ballonet.model.tick import Tick
from ballonet.model.units import GIB
from ballonet.report.record import Record
from ballonet.scenarios.scenario import Group, HostPart, Phase, Scenario

VOICES = ("adaptive", "adaptive+qga", "adaptive+agent")
GUESTS, ROUNDS, PERIOD_S, LASTS_S = 5, 11, 15.0, 3.0
CALM, PEAK, SCALE = 5 * GIB, 9 * GIB, 32
RATE = 2 * GIB
"""Bytes a second: no real guest of 16 GiB was seen to rise faster (1.8 GiB/s, HyperAlloc, EuroSys'25, raw data of the clang
runs)."""
PATH = Path(__file__).parent / "results" / "reaction.json"


def spikes() -> Scenario:
    """Guest n spikes at PERIOD_S / GUESTS * n seconds of each round."""
    phases = [Phase(at_s=0, used=Size(CALM))]
    for number in range(ROUNDS):
        at_s = 2.0 + number * PERIOD_S
        phases.append(Phase(at_s=at_s, used=Size(PEAK), per_s=Size(RATE)))
        phases.append(Phase(at_s=at_s + LASTS_S, used=Size(CALM), per_s=Size(RATE)))
    memory, floor = Size(16 * GIB), Size(4 * GIB)
    spiky = Group(name="spiky", memory=memory, floor_bytes=floor, count=GUESTS, stagger_s=PERIOD_S / GUESTS, phases=tuple(phases))
    # What nobody needs is theirs, so that those that spike live at their need.
    idle = Group(name="idle", memory=memory, floor_bytes=floor, count=2, shares=50_000, phases=tuple(phases[:1]))
    return Scenario(
        name="spikes",
        about="Five guests that take 4 GiB more as fast as they can, in turn",
        duration_s=ROUNDS * PERIOD_S + 4,
        warmup_s=10,
        warm=True,
        host=HostPart(memory=Size(60 * GIB)),
        guests=(spiky, idle),
    )


class Watch:
    """Sees each tick of one arm."""

    def __init__(self) -> None:
        self.given: list[tuple[float, str]] = []
        self.kept: list[tuple[float, dict[str, int]]] = []
        self.lines: list[tuple[float, dict[str, int]]] = []
        """Below what of available memory the host wants to know."""
        self.grown: list[tuple[float, str, int]] = []
        """What was available when a workload had taken more, as it told."""
        self.voices: dict[str, int] = {}

    def tick(self, at_s: float, tick: Tick) -> None:
        """Notes who was given memory, and what each keeps."""
        keeps = {guest.name: guest.keep_bytes or 0 for guest in tick.snapshot.guests}
        self.kept.append((at_s - tick.took_s, keeps))
        self.lines.append((at_s, {name: look.wake_below_bytes for name, look in tick.plan.looks.items()}))
        for one in tick.plan.guests:
            if one.name in tick.outcome.sent and (one.keep_bytes or 0) > keeps[one.name]:
                self.given.append((at_s, one.name))
        for guest in tick.snapshot.guests:
            self.voices[guest.voice.value] = self.voices.get(guest.voice.value, 0) + 1

    def spikes(self, record: Record) -> Iterator[tuple[float, float]]:
        """Of each spike the seconds to the first command and to relief; a spike that needed neither is left out."""
        for name, guest in record.guests.items():  # idle ones have one phase
            for at_s, used, _ in guest.script.phases[1::2]:
                end_s = at_s + LASTS_S
                begin_s = self._crossing(name, at_s, end_s)
                before = [keeps[name] for seen_s, keeps in self.kept if seen_s <= at_s and name in keeps]
                if not before or before[-1] >= used:
                    continue
                first = next((given_s for given_s, who in self.given if who == name and at_s <= given_s < end_s), end_s)
                there = next((seen_s for seen_s, keeps in self.kept if seen_s >= at_s and keeps.get(name, 0) >= used), end_s)
                yield max(0.0, first - begin_s), max(0.0, there - begin_s)

    def _crossing(self, name: str, at_s: float, end_s: float) -> float:
        """When its workload said that less was available than the line of that moment; a newer line shows that the host knew."""
        said = ((said_s, left) for said_s, who, left in self.grown if who == name and at_s <= said_s < end_s)
        return next((said_s for said_s, left in said if left < self._line(name, said_s)), end_s)

    def _line(self, name: str, at_s: float) -> int:
        return next((lines[name] for set_s, lines in reversed(self.lines) if set_s <= at_s and name in lines), 0)


def figures(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile and largest."""
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return {"p50": round(statistics.median(ordered), 3), "p99": round(p99, 3), "max": round(ordered[-1], 3)}


def measure(voice: str) -> tuple[dict[str, object], Result]:
    """One arm, and its figures."""
    watch = Watch()
    progress = Progress(on_tick=watch.tick, on_grown=lambda *grown: watch.grown.append(grown))
    arms = run_arms(spikes(), [voice], scale=SCALE, host_share=None, seed=1, progress=lambda _: progress)
    flight = asyncio.run(arms)
    times = list(watch.spikes(flight.records[0]))
    summary = flight.results[0].summary
    found: dict[str, object] = {
        "spikes": len(times),
        "first_command_s": figures([first for first, _ in times]),
        "relief_s": figures([relief for _, relief in times]),
        "short_guest_s": summary.shortage_s,
        "swap_in_pages": summary.swap_in_pages,
        "throughput_share": summary.throughput_share,
        "voice": watch.voices,
    }
    return found, flight.results[0]


def main() -> None:
    """Measures the voices one after the other, in one run."""
    found = {}
    for voice in sys.argv[1:] or VOICES:
        print(voice, file=sys.stderr, flush=True)
        found[voice], result = measure(voice)
        print(voice, found[voice], flush=True)
    machine = {"cpus": os.cpu_count(), "arch": platform.machine(), "guests_under": result.accelerator}
    date = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    PATH.write_text(json.dumps({"date": date, "machine": machine, "voices": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
