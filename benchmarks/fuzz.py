"""Fault storms until a given number of simulated VM-hours is done; the first broken invariant is shrunk and printed."""

import sys
import time

from rich.progress import Progress

from ballonet.sim.fuzz import check, shrink, storm, vm_hours


def main() -> int:
    """Arguments: VM-hours (100,000), seconds at most (none), first seed (1). Exits 1 when something broke."""
    words = [float(word) for word in sys.argv[1:]]
    goal, most_s, first = (words + [100_000.0, float("inf"), 1.0][len(words) :])[:3]
    done, seed, start = 0.0, int(first), time.monotonic()
    with Progress() as progress:
        bar = progress.add_task("VM-hours", total=goal)
        while done < goal and time.monotonic() - start < most_s:
            if (broken := check(seed)) is not None:
                progress.stop()
                small = shrink(broken)
                print(f"seed {small.seed} with {small.guests} guests and {small.faults} faults: {small.what}")
                print(storm(small.seed, guests=small.guests, faults=small.faults))
                return 1
            done += vm_hours(storm(seed))
            seed += 1
            progress.update(bar, completed=done)
    print(f"{done:,.0f} VM-hours, seeds {int(first)} to {seed - 1}, {time.monotonic() - start:.0f} s: nothing broke")
    return 0


if __name__ == "__main__":
    sys.exit(main())
