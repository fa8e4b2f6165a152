"""The host's own memory and pressure, from /proc: proc(5), Documentation/accounting/psi.rst."""

import contextlib
import errno
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from ballonet.hypervisors.contract import Guided
from ballonet.model.snapshot import Host
from ballonet.model.units import KIB
from ballonet.sense.cgroup import Cgroups
from ballonet.sense.errors import SenseError

_ROWS: Final = ("MemTotal", "MemAvailable", "Hugetlb", "HugePages_Total", "Hugepagesize")
"""Of /proc/meminfo, what decides; whatever stands in others stops nobody."""
MOST_BYTES: Final = 1 << 60
"""No host has more than an exbibyte."""


class Around(NamedTuple):
    """What surrounds guests on a host."""

    host: Host
    own_limits: Mapping[str, int] = {}
    """The most that one guest can have, by name, where the host limits it by itself."""


class HostSense(Protocol):
    """Whatever reads a host."""

    def read(self, pids: Mapping[str, int], resident: Mapping[str, int]) -> Around:
        """The host now. Raises SenseError.

        Args:
            pids: of the guests' processes, by name.
            resident: what each guest has of the host's memory, as far as it is known.
        """
        ...


class RemoteHost:
    """A host that its hypervisor tells of."""

    def __init__(self, hypervisor: Guided) -> None:
        """Args:
        hypervisor: open.
        """
        self._hypervisor = hypervisor

    def read(self, _pids: Mapping[str, int], _resident: Mapping[str, int]) -> Around:
        """The host as it was heard last. Raises SenseError."""
        host = self._hypervisor.host()
        if host is None:
            raise SenseError("the hypervisor has not answered; its log line says why")
        return Around(host)


def host_sense(hypervisor: object, root: Path) -> HostSense:
    """What reads the host of these guests."""
    return RemoteHost(hypervisor) if isinstance(hypervisor, Guided) else ProcHost(root)


def is_contained(mountinfo: str) -> bool:
    """Whether /proc/meminfo is a container's, made by lxcfs (a FUSE mount over it): the host's ZFS cache is not in it."""
    # proc(5): the fifth field is the mount point, the type follows a lone hyphen.
    return any(line.split(" ")[4:5] == ["/proc/meminfo"] and " - fuse" in line for line in mountinfo.splitlines())


class ProcHost:
    """A Linux host."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Args:
        root: where /proc and /sys are found; another one for tests and containers.
        """
        self._root = root
        self._cgroups = Cgroups(root)
        self._has_lxcfs = False
        self._pressures: dict[str, tuple[float, float]] = {}
        """What was read last, by kind."""

    def read(self, pids: Mapping[str, int] = MappingProxyType({}), resident: Mapping[str, int] = MappingProxyType({})) -> Around:
        """The host now. A missing /proc/pressure means no pressure is known, and reads as none.

        Raises:
            SenseError: no readable /proc/meminfo.
        """
        meminfo = self._meminfo()
        huge = meminfo.get("Hugetlb", meminfo.get("HugePages_Total", 0) // KIB * meminfo.get("Hugepagesize", 0))
        total, available = max(0, meminfo["MemTotal"] - huge), meminfo["MemAvailable"]
        if not self._is_contained():
            available += self._arc_bytes(total - available)
        found = self._cgroups.find(pids, resident)
        if found.around_all is not None:
            total, available = min(total, found.around_all.limit_bytes), min(available, found.around_all.available_bytes)
        some, full = self._pressure("memory")
        host = Host(
            total_bytes=total,
            available_bytes=min(available, total),
            huge_bytes=huge,
            pressure_some_avg10_share=some,
            pressure_full_avg10_share=full,
            cpu_some_avg10_share=self._pressure("cpu")[0],
            io_some_avg10_share=self._pressure("io")[0],
            ksm_pages=self._ksm_pages(),
            budgets=found.around_some,
        )
        return Around(host, found.own)

    def _meminfo(self) -> dict[str, int]:
        """Sizes in bytes; counts times 1024, as if they were sizes."""
        path = self._root / "proc/meminfo"
        try:
            lines = [line.split() for line in path.read_text(errors="replace").splitlines()]
            rows = {words[0].rstrip(":"): words[1] for words in lines if len(words) > 1}
            found: dict[str, int] = {name: int(rows[name]) * KIB for name in _ROWS if name in rows}
        except (OSError, ValueError) as error:
            raise SenseError(f"cannot read {path}: {error}") from error
        if wrong := [name for name, size in found.items() if not 0 <= size <= MOST_BYTES]:
            raise SenseError(f"{path}: {wrong[0]!r} is {found[wrong[0]]} bytes, which no host has")
        if missing := [name for name in ("MemTotal", "MemAvailable") if name not in found]:
            raise SenseError(f"{path} has no {missing[0]!r}; ballonet needs Linux 3.14 or later")
        return found

    def _is_contained(self) -> bool:
        with contextlib.suppress(OSError):  # what cannot be read now is as it was
            self._has_lxcfs = is_contained((self._root / "proc/self/mountinfo").read_text(errors="replace"))
        return self._has_lxcfs

    def _arc_bytes(self, in_use: int) -> int:
        """What a ZFS cache gives back when asked: its size above its minimum. The kernel counts it as used; one larger than
        all that is in use is not of this machine.
        """
        try:
            text = (self._root / "proc/spl/kstat/zfs/arcstats").read_text(errors="replace")
            rows = [line.split() for line in text.splitlines()[2:]]
            stats = {row[0]: int(row[2]) for row in rows if len(row) == 3}  # noqa: PLR2004 name, type, data
            return max(0, stats["size"] - stats["c_min"]) if stats["size"] <= in_use else 0
        except (OSError, ValueError, KeyError):
            return 0

    def _ksm_pages(self) -> int | None:
        """What KSM does now (Documentation/admin-guide/mm/ksm.rst)."""
        folder = self._root / "sys/kernel/mm/ksm"
        try:
            runs = (folder / "run").read_text().strip() == "1"
            return int((folder / "pages_to_scan").read_text()) if runs else 0
        except (OSError, ValueError):
            return None

    def _pressure(self, of: str) -> tuple[float, float]:
        """Shares of the last 10 s in which some, and in which all tasks waited; none where the kernel does not count them."""
        try:
            text = (self._root / "proc/pressure" / of).read_text(errors="replace")
        except OSError as error:
            no_psi = {errno.ENOENT, errno.ENOTDIR, errno.EOPNOTSUPP}
            return (0.0, 0.0) if error.errno in no_psi else self._pressures.get(of, (0.0, 0.0))
        found = {"some": 0.0, "full": 0.0}
        for line in text.splitlines():
            kind, _, rest = line.partition(" ")
            with contextlib.suppress(ValueError, IndexError):
                share = float(rest.split()[0].removeprefix("avg10=")) / 100
                found[kind] = share if 0 <= share <= 1 else 0.0
        self._pressures[of] = found["some"], found["full"]
        return self._pressures[of]
