"""What stands in the way of ballooning on this host and in its guests, each finding with its remedy. Looks and touches nothing.

Sources: Documentation/admin-guide/mm (ksm, transhuge, zswap, hugetlbpage), Documentation/accounting/psi.rst and
Documentation/mm/overcommit-accounting.rst of Linux.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ballonet.model.finding import HOST, Finding, Level
from ballonet.model.snapshot import Guest, Host, Mechanism, Voice
from ballonet.model.units import MIB, format_size
from ballonet.sense import hooks
from ballonet.sense.host import is_contained

CONTROLLERS: Final = {
    "pvestatd": "it balloons VMs with a minimum below their memory: qm set VMID --shares 0 hands one over",
    "momd": "end it (systemctl disable --now momd), or leave ballooning to it",
    "vdsmd": "switch ballooning off in the cluster's optimization settings of oVirt",
}
"""Processes that move balloons of their own accord, and what to do about each."""
RECLAIM_SINCE: Final = (5, 19)
"""Of Linux (Documentation/admin-guide/cgroup-v2.rst)."""
REPORTING_SINCE: Final = (5, 1)
"""Of QEMU (https://wiki.qemu.org/ChangeLog/5.1)."""
SWAPPED_BYTES: Final = 256 * MIB
"""Less than this in the host's swap is what nobody touches."""
SHOWN: Final = 4
"""This many guests are named."""
OVER_BYTES: Final = 256 * MIB
"""More than this beyond what a guest keeps is not QEMU's own: what its balloon takes does not come back."""


class HostDoctor:
    """Reads what the host has switched on."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Args:
        root: where /proc and /sys are found.
        """
        self._root = root

    def findings(self) -> list[Finding]:
        """All of the host's, the worst first."""
        found = [*self._memory(), *self._kernel(), *self._others(), *self._ladder(), *hooks.findings(self._root)]
        return sorted(found, key=lambda one: list(Level).index(one.level), reverse=True)

    def _memory(self) -> Iterator[Finding]:
        meminfo = dict(line.split(":", 1) for line in self._text("proc/meminfo").splitlines() if ":" in line)
        words = {name: value.split()[0] for name, value in meminfo.items() if value.split()}
        sizes = {name: int(word) for name, word in words.items() if word.isascii() and word.isdecimal()}
        if sizes.get("SwapTotal") == 0:
            yield _host(Level.NOTE, "has no swap", "nothing, or add some: if all else fails it is slow instead of out of memory")
        if (swapped := sizes.get("SwapTotal", 0) - sizes.get("SwapFree", 0)) * 1024 > SWAPPED_BYTES and "SwapFree" in sizes:
            what = f"{format_size(swapped * 1024)} are in the host's swap: guests among that wait for a disk, and do not know why"
            yield _host(
                Level.WARNING, what, "guests among them are named here too; lend less, or swapoff -a while memory is free"
            )
        if count := sizes.get("HugePages_Total", 0):
            held = format_size(count * sizes.get("Hugepagesize", 0) * 1024)
            what = f"{held} are set aside as huge pages: no balloon can lend them, and they are no part of the sums"
            yield _host(Level.WARNING, what, "give back what guests do not use of them: sysctl vm.nr_hugepages")
        if is_contained(self._text("proc/self/mountinfo")):
            what = "/proc/meminfo is a container's (lxcfs): only its memory counts, and nothing of the host around it"
            yield _host(Level.NOTE, what, "nothing, if all guests run in this container; else run ballonet on the host")
        nodes = [path for path in (self._root / "sys/devices/system/node").glob("node[0-9]*") if path.is_dir()]
        if len(nodes) > 1:
            what = (
                f"{len(nodes)} NUMA nodes: memory is counted for all of them together, so one may be empty while others are not"
            )
            yield _host(Level.WARNING, what, "do not bind guests to a node strictly (libvirt: numatune mode='preferred')")
        if self._text("proc/sys/vm/overcommit_memory").strip() == "2":
            what = "the kernel refuses memory beyond a fixed limit (vm.overcommit_memory = 2), so QEMUs may not start"
            yield _host(Level.FAULT, what, "sysctl vm.overcommit_memory=0")

    def _ladder(self) -> Iterator[Finding]:
        """What could be done beyond balloons when the host runs out of memory; off until it is allowed."""
        has_swap = len(self._text("proc/swaps").splitlines()) > 1
        version = _numbers(self._text("proc/sys/kernel/osrelease"))
        if version and version < RECLAIM_SINCE:
            what = f"Linux {version[0]}.{version[1]} has no memory.reclaim: `emergency.reclaim` would do nothing"
            yield _host(Level.NOTE, what, "Linux 5.19 or later, if that is wanted")
        elif has_swap and (self._root / "sys/fs/cgroup/cgroup.controllers").exists():
            what = "in host states hard and low, idle guests could be paged out by the host, beyond what balloons give"
            yield _host(Level.NOTE, what, "nothing, or emergency.reclaim = true in the configuration")
        if self._text("sys/kernel/mm/ksm/run").strip() == "0":
            what = "KSM is off; from host state soft on it could look for equal pages, at the cost of a CPU"
            yield _host(Level.NOTE, what, "nothing, or emergency.ksm = true in the configuration")

    def _kernel(self) -> Iterator[Finding]:
        if not self._text("proc/pressure/memory"):
            what = "no PSI: pressure on the host is not known, and balloons are not slowed down by it (R11)"
            yield _host(Level.WARNING, what, "boot with psi=1; Linux 4.20 or later")
        elif missing := [of for of in ("cpu", "io") if not self._text(f"proc/pressure/{of}")]:
            what = f"no PSI of {' and '.join(missing)}: as many balloons move at once as if no task waited for that (R11)"
            yield _host(Level.NOTE, what, "Linux 4.20 or later, with psi=1")
        if "[always]" in self._text("sys/kernel/mm/transparent_hugepage/enabled"):
            what = "transparent huge pages are always on: a balloon breaks them up, which costs guests some speed"
            yield _host(Level.NOTE, what, "nothing, or echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
        if self._text("sys/kernel/mm/ksm/run").strip() == "1":
            what = "KSM merges equal pages: what it saves is lost again when guests write, all at once at the worst"
            yield _host(Level.NOTE, what, "nothing, or leave it off and let balloons do: echo 2 > /sys/kernel/mm/ksm/run")
        if self._text("sys/module/zswap/parameters/enabled").strip() == "Y":
            yield _host(Level.NOTE, "zswap compresses what the host pages out", "nothing: it makes an emergency milder")

    def _others(self) -> Iterator[Finding]:
        names = {self._text(f"proc/{path.name}/comm").strip() for path in (self._root / "proc").glob("[0-9]*")}
        for name in sorted(names & CONTROLLERS.keys()):
            yield _host(Level.WARNING, f"{name} runs, which moves balloons too", CONTROLLERS[name])

    def _text(self, path: str) -> str:
        """Empty where there is no such file."""
        try:
            return (self._root / path).read_text(errors="replace")
        except OSError:
            return ""


def _numbers(text: str) -> tuple[int, ...]:
    """The first two of a version; empty when it has none."""
    return tuple(int(number) for number in re.findall(r"[0-9]+", text)[:2])


def _host(level: Level, what: str, remedy: str) -> Finding:
    return Finding(level=level, where=HOST, what=what, remedy=remedy)


def limit_findings(host: Host) -> list[Finding]:
    """Limits around some guests that bind besides the host's own memory."""
    found = []
    for budget in host.budgets:
        names = ", ".join(budget.guests[:SHOWN]) + (
            f" and {len(budget.guests) - SHOWN} more" if len(budget.guests) > SHOWN else ""
        )
        what = f"{budget.name} limits {names} to {format_size(budget.limit_bytes)} together"
        remedy = "nothing, if that is meant: it is kept; else raise MemoryMax= or MemoryHigh= of it"
        found.append(Finding(level=Level.NOTE, where=HOST, what=what, remedy=remedy))
    return found


def guest_findings(guest: Guest) -> list[Finding]:
    """What stands in the way in one guest."""
    if guest.leave_alone:
        remedy = "" if ";" in guest.leave_alone else "nothing, if that is meant: it counts at what it occupies"
        what, _, told = guest.leave_alone.partition("; ")
        return [Finding(level=Level.WARNING, where=guest.name, what=f"left alone: {what}", remedy=told or remedy)]
    return [Finding(level=level, where=guest.name, what=what, remedy=remedy) for level, what, remedy in _of_guest(guest)]


def _of_its_host(guest: Guest) -> Iterator[tuple[Level, str, str]]:
    if guest.limit_bytes is not None:
        what = f"the host limits it to {format_size(guest.limit_bytes)} of RAM, by a cgroup of its own: that is its ceiling"
        yield Level.NOTE, what, "nothing, if that is meant; else raise memory.max (libvirt: <hard_limit>) or memory.high"
    if guest.swapped_bytes > SWAPPED_BYTES:
        what = f"{format_size(guest.swapped_bytes)} of it are in the host's swap: it waits for a disk, and does not know why"
        yield Level.WARNING, what, "lend less, or swapoff -a on the host while memory is free"


def _of_guest(guest: Guest) -> Iterator[tuple[Level, str, str]]:
    yield from _of_its_host(guest)
    stats, keep = guest.stats, guest.keep_bytes
    if stats is None:
        yield Level.FAULT, "says nothing of its memory", "load its balloon driver (virtio_balloon; on Windows the BLNSVR service)"
        return
    if stats.available_bytes is None:
        yield (
            Level.WARNING,
            "its driver does not say what is available; free and half of its cache count",
            "a newer balloon driver",
        )
    if stats.total_bytes is not None and keep is not None and stats.total_bytes > keep:
        what = "its MemTotal stays while its balloon moves, so its use is known less well while it does"
        yield Level.NOTE, what, "nothing on Windows; on Linux switch deflate-on-oom off (libvirt: autodeflate='off')"
    if stats.swap_total_bytes == 0:
        yield (
            Level.NOTE,
            "has no swap: it keeps more of a margin, and is killed where others would page",
            "add some swap in the guest",
        )
    if guest.voice is Voice.BALLOON:
        yield Level.NOTE, "is heard by its balloon driver alone, once a second", "ballonet's agent: docs/reference/agent.md"
    if keep is not None and guest.resident_bytes is not None and guest.resident_bytes > keep + OVER_BYTES:
        over = format_size(guest.resident_bytes - keep)
        what = f"occupies {over} more than it keeps: what its balloon takes does not come back to the host"
        yield Level.WARNING, what, "no preallocated, locked or huge pages for it"
    if guest.reports_free_pages is False:
        what = "free page reporting is off: what it frees comes back to the host by its balloon only"
        yield (
            Level.NOTE,
            what,
            "-device virtio-balloon,free-page-reporting=on (libvirt: freePageReporting='on'), at its next start",
        )
    if guest.hypervisor.startswith("QEMU") and _numbers(guest.hypervisor) < REPORTING_SINCE:
        yield Level.NOTE, f"{guest.hypervisor} knows neither free page reporting nor virtio-mem", "QEMU 5.1 or later"
    if guest.mechanisms == (Mechanism.VIRTIO_MEM,):
        yield (
            Level.NOTE,
            "has virtio-mem and no balloon: it moves in blocks, and is not ballooned",
            "add a balloon for fine steps",
        )
