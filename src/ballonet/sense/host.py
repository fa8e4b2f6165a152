"""The host's own memory and pressure, from /proc: proc(5), Documentation/accounting/psi.rst."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from ballonet.hypervisors.contract import Guided
from ballonet.model.snapshot import Host
from ballonet.sense.cgroup import Cgroups

_KIB: Final = 1024


class SenseError(Exception):
    """The host cannot be read. Nothing can be decided; the text names the file."""


class HostSense(Protocol):
    """Whatever reads a host."""

    def read(self, pids: Iterable[int]) -> Host:
        """The host now. `pids`: the guests' processes. Raises SenseError."""
        ...


class RemoteHost:
    """A host that its hypervisor tells of."""

    def __init__(self, hypervisor: Guided) -> None:
        """Args:
        hypervisor: open.
        """
        self._hypervisor = hypervisor

    def read(self, _pids: Iterable[int] = ()) -> Host:
        """The host as it was heard last. Raises SenseError."""
        host = self._hypervisor.host()
        if host is None:
            raise SenseError("the hypervisor has not answered; its log line says why")
        return host


def host_sense(hypervisor: object, root: Path) -> HostSense:
    """What reads the host of these guests."""
    return RemoteHost(hypervisor) if isinstance(hypervisor, Guided) else ProcHost(root)


class ProcHost:
    """A Linux host."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Args:
        root: where /proc and /sys are found; another one for tests and containers.
        """
        self._root = root
        self._cgroups = Cgroups(root)

    def read(self, pids: Iterable[int] = ()) -> Host:
        """The host now. A missing /proc/pressure means no pressure is known, and reads as none.

        Raises:
            SenseError: no readable /proc/meminfo.
        """
        meminfo = self._meminfo()
        total, available = meminfo["MemTotal"], meminfo["MemAvailable"] + self._arc_bytes()
        group = self._cgroups.memory(pids)
        if group is not None:
            total, available = min(total, group.limit_bytes), min(available, group.available_bytes)
        some, full = self._pressure()
        return Host(
            total_bytes=total,
            available_bytes=min(available, total),
            pressure_some_avg10_share=some,
            pressure_full_avg10_share=full,
        )

    def _meminfo(self) -> dict[str, int]:
        path = self._root / "proc/meminfo"
        try:
            lines = [line.split() for line in path.read_text().splitlines()]
            found = {words[0].rstrip(":"): int(words[1]) * _KIB for words in lines if len(words) > 1}
            return {name: found[name] for name in ("MemTotal", "MemAvailable")}
        except (OSError, ValueError) as error:
            raise SenseError(f"cannot read {path}: {error}") from error
        except KeyError as error:
            raise SenseError(f"{path} has no {error}; ballonet needs Linux 3.14 or later") from error

    def _arc_bytes(self) -> int:
        """What a ZFS cache gives back when asked: its size above its minimum. The kernel counts it as used."""
        try:
            text = (self._root / "proc/spl/kstat/zfs/arcstats").read_text()
            rows = [line.split() for line in text.splitlines()[2:]]
            stats = {row[0]: int(row[2]) for row in rows if len(row) == 3}  # noqa: PLR2004 name, type, data
            return max(0, stats["size"] - stats["c_min"])
        except (OSError, ValueError, KeyError):
            return 0

    def _pressure(self) -> tuple[float, float]:
        try:
            text = (self._root / "proc/pressure/memory").read_text()
            rows = dict(line.split(maxsplit=1) for line in text.splitlines())
            some, full = (float(rows[kind].split()[0].removeprefix("avg10=")) / 100 for kind in ("some", "full"))
        except (OSError, ValueError, KeyError):
            return 0.0, 0.0
        return some, full
