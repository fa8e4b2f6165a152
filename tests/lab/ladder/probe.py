"""Runs in a lab guest in place of its workload: a host as small as that, on whose kernel the ladder climbs.

Says on the console what it saw, as one line of JSON after LADDER.
"""

import asyncio
import json
import mmap
import os
import time
from pathlib import Path

import msgspec

from ballonet.act.host_steps import HostSteps
from ballonet.decide.ladder import emergency
from ballonet.model.limits import Limits
from ballonet.model.plan import Decision, Plan, Reason, Reserve, ReserveReason
from ballonet.model.snapshot import Guest, Host, Snapshot

MIB = 1 << 20
EQUAL, OTHER = 64 * MIB, 32 * MIB
ASKED = 24 * MIB
KSM = Path("/sys/kernel/mm/ksm")
GROUP = Path("/sys/fs/cgroup/vm-a")


def hold() -> None:
    """As a QEMU does: memory that may be merged, and other."""
    equal, other = (mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE) for size in (EQUAL, OTHER))  # KSM merges no shared memory
    equal.madvise(mmap.MADV_MERGEABLE)
    equal.write(b"ballonet" * (EQUAL // 8))
    other.write(os.urandom(OTHER))
    Path("/tmp/held").write_text("")  # noqa: S108 the guest is ours alone
    time.sleep(1e6)


def number(path: Path) -> int:
    return int(path.read_text())


def plan(state: str, resident: int, limits: Limits) -> Plan:
    """For a guest that holds ASKED more than it needs, on a host that lacks more than that."""
    guest = Guest(name="a", ceiling_bytes=256 * MIB, keep_bytes=256 * MIB, resident_bytes=resident)
    told = Decision("a", 256 * MIB, Reason.CALM, {}, None, MIB, resident - ASKED, resident - ASKED, MIB)
    reserve = Reserve(128 * MIB, ReserveReason.OPERATOR, {})
    made = Plan(policy="adaptive", guests=(told,), host_state=state, reserve=reserve)
    snapshot = Snapshot(host=Host(total_bytes=512 * MIB, available_bytes=0, ksm_pages=0), guests=(guest,))
    return msgspec.structs.replace(made, emergency=emergency(made, snapshot, limits))


async def climb(pid: int) -> dict[str, object]:
    ladder = HostSteps(Path("/"), lambda _name: pid)
    before = {name: number(KSM / name) for name in ("run", "pages_to_scan")}
    ladder.climb(plan("soft", EQUAL, Limits(may_ksm=True)), may_ksm=True)
    end = time.monotonic() + 90
    while number(KSM / "pages_sharing") < EQUAL // 4096 // 2 and time.monotonic() < end:
        await asyncio.sleep(0.5)
    during = {name: number(KSM / name) for name in ("run", "pages_to_scan", "pages_sharing")}
    held = number(GROUP / "memory.current")
    ladder.climb(plan("low", held, Limits(may_reclaim=True)), may_ksm=False)
    after = {name: number(KSM / name) for name in ("run", "pages_to_scan")}
    await ladder.close()
    return {
        "before": before,
        "during": during,
        "after": after,
        "held": held,
        "left": number(GROUP / "memory.current"),
        "swapped": number(GROUP / "memory.swap.current"),
    }


GROUP.mkdir()
if (child := os.fork()) == 0:
    (GROUP / "cgroup.procs").write_text(str(os.getpid()))
    hold()
while not Path("/tmp/held").exists():  # noqa: S108 the guest is ours alone
    time.sleep(0.1)
print("LADDER " + json.dumps(asyncio.run(climb(child))), flush=True)  # noqa: T201 the console is where it is heard
time.sleep(1e6)
