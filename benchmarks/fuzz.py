"""Fault storms until a given number of simulated VM-hours is done; the first broken invariant is shrunk and printed."""

import sys
import time

from rich.progress import Progress

from ballonet.sim.fuzz import shrink, storm, sweep


def main() -> int:
    """Arguments: VM-hours (100,000), first seed (1). Exits 1 when something broke. On two cores a VM-hour takes 0.1 s."""
    words = [float(word) for word in sys.argv[1:]]
    goal, first = (words + [100_000.0, 1.0][len(words) :])[:2]
    start, last = time.monotonic(), (0.0, int(first))
    with Progress() as progress:
        bar = progress.add_task("VM-hours", total=goal)
        for done, seed, broken in sweep(goal, int(first)):
            if broken is not None:
                progress.stop()
                small = shrink(broken)
                print(f"seed {small.seed} with {small.guests} guests and {small.faults} faults: {small.what}")
                print(storm(small.seed, guests=small.guests, faults=small.faults))
                return 1
            last = done, seed
            progress.update(bar, completed=done)
    print(f"{last[0]:,.0f} VM-hours, seeds {int(first)} to {last[1]}, {time.monotonic() - start:.0f} s: nothing broke")
    return 0


if __name__ == "__main__":
    sys.exit(main())
