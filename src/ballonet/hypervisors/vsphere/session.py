"""One session with a vSphere API: blocking, for a thread. Errors are one line each that says what mends it.

One ContainerView for the session and one RetrievePropertiesEx with all properties at once: 0.3 s for 1,000 VMs at govmomi's
simulator, where one call for each VM and property takes seconds.
"""

import contextlib
import http.client
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pyVim.connect import SmartStubAdapter
from pyVmomi import vim, vmodl

from ballonet.hypervisors.contract import GuestGoneError, HypervisorError, NoAnswerError, RefusedError
from ballonet.hypervisors.remote.adapter import DeniedError, Picture, Row, reached
from ballonet.hypervisors.vsphere.config import VsphereConfig
from ballonet.hypervisors.vsphere.rows import HOST_PROPERTIES, VM_PROPERTIES, Felt, host_of, vm_row
from ballonet.model.knobs import Entitlement, Knobs
from ballonet.model.units import KIB, MIB

DEADLINE_S: Final = 10.0
TASK_S: Final = 25
TASK_POLL_S: Final = 0.1
OLDEST: Final = (6, 0)
"""Older APIs know no host state "clear" and other units."""
REAL_TIME_S: Final = 20
"""Between two samples of a host's own counters."""
SWAP_IN: Final = "mem.swapinRate.average"
LATENCY: Final = "mem.latency.average"
"""Of its time, what a VM waits for memory that was swapped or compressed, in hundredths of a percent: the one counter of pain."""
STATE: Final = "mem.state.latest"
DRS: Final = "DRS moves the VMs of its cluster by what they are entitled to; set vsphere.drs = true to steer it all the same"


class VsphereSession:
    """Open until it is closed or breaks."""

    def __init__(self, where: VsphereConfig, password: str) -> None:
        """Logs in. Raises HypervisorError."""
        self._where = where
        self.calls: Counter[str] = Counter()
        """How often what was asked of the server."""
        self._felt: dict[str, Felt] = {}
        self._stub: Any = None
        self._content: Any = None
        try:
            with _told(where):
                self._log_in(password)
        except HypervisorError:
            self.close()
            raise

    def _log_in(self, password: str) -> None:
        where = self._where
        context = reached(where.server, where.port, where.ca_file, DEADLINE_S, "vsphere.ca_file")
        self._stub = SmartStubAdapter(host=where.server, port=where.port, sslContext=context, httpConnectionTimeout=DEADLINE_S)
        self._content = vim.ServiceInstance("ServiceInstance", self._stub).RetrieveContent()
        _check_version(where, self._content.about.apiVersion)
        self._content.sessionManager.Login(where.user, password, None)
        self._host = self._find_host()
        self._alone = "" if where.drs or not self._has_drs() else DRS
        self._view = self._content.viewManager.CreateContainerView(self._content.rootFolder, [vim.VirtualMachine], True)
        counters = self._content.perfManager.perfCounter
        self._counters = {f"{one.groupInfo.key}.{one.nameInfo.key}.{one.rollupType}": one.key for one in counters}

    def _find_host(self) -> Any:
        view = self._content.viewManager.CreateContainerView(self._content.rootFolder, [vim.HostSystem], True)
        hosts = {said["name"]: ref for ref, said in self._properties(view, vim.HostSystem, ("name",))}
        view.Destroy()
        names = ", ".join(sorted(hosts)) or "none"
        if self._where.host:
            if self._where.host not in hosts:
                raise RefusedError(f"no host {self._where.host!r} at {self._where.server}; vsphere.host may be: {names}")
            return hosts[self._where.host]
        if len(hosts) != 1:
            raise RefusedError(f"{self._where.server} has {len(hosts)} hosts; name one as vsphere.host: {names}")
        return next(iter(hosts.values()))

    def _has_drs(self) -> bool:
        """Whether another controller moves the VMs of this host to others."""
        ((_, said),) = self._properties(self._host, vim.HostSystem, ("parent",))
        if not isinstance(cluster := said.get("parent"), vim.ClusterComputeResource):
            return False
        ((_, said),) = self._properties(cluster, vim.ClusterComputeResource, ("configurationEx",))
        drs = getattr(said.get("configurationEx"), "drsConfig", None)
        return bool(drs and drs.enabled)

    def read(self) -> Picture:
        """The host and its running VMs now. Raises HypervisorError."""
        with _told(self._where):
            found = [(ref, said) for ref, said in self._properties(self._view, vim.VirtualMachine, VM_PROPERTIES)]
            ours = [(ref, said) for ref, said in found if said.get("runtime.host") == self._host]
            state = self._rates([ref for ref, said in ours if _may_suffer(said)])
            rows = (vm_row(ref._moId, said, self._felt.get(ref._moId, Felt()), self._alone) for ref, said in ours)  # noqa: SLF001 pyVmomi's own name for it
            ((_, host),) = self._properties(self._host, vim.HostSystem, HOST_PROPERTIES)
            return Picture(host=host_of(host, state), rows=tuple(row for row in rows if row is not None))

    def _properties(self, root: Any, kind: Any, names: Iterable[str]) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Of each object of a view, or of one object, in as few calls as the server allows."""
        collector = vmodl.query.PropertyCollector
        is_view = isinstance(root, vim.view.ContainerView)
        through = collector.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
        where = collector.ObjectSpec(obj=root, skip=is_view, selectSet=[through] if is_view else [])
        what = collector.PropertySpec(type=kind, pathSet=list(names), all=False)
        self.calls["RetrievePropertiesEx"] += 1
        answer = self._content.propertyCollector.RetrievePropertiesEx(
            [collector.FilterSpec(objectSet=[where], propSet=[what])], collector.RetrieveOptions()
        )
        while answer is not None:
            for one in answer.objects:
                yield one.obj, {each.name: each.val for each in one.propSet}
            if not answer.token:
                return
            self.calls["ContinueRetrievePropertiesEx"] += 1
            answer = self._content.propertyCollector.ContinueRetrievePropertiesEx(answer.token)

    def _rates(self, suffering: list[Any]) -> int | None:
        """Counts on what VMs feel that have swapped or have a limit, and returns the host's state. One call.

        Levels of swapped memory stay long after the pressure: rates tell.
        """
        metric = vim.PerformanceManager.MetricId
        asked = [(ref, (SWAP_IN, LATENCY)) for ref in suffering] + [(self._host, (STATE,))]
        specs = [
            vim.PerformanceManager.QuerySpec(entity=ref, metricId=metrics, intervalId=REAL_TIME_S, maxSample=1)
            for ref, names in asked
            if (metrics := [metric(counterId=self._counters[name], instance="") for name in names if name in self._counters])
        ]
        if not specs:
            return None
        self.calls["QueryPerf"] += 1
        state = None
        names = {number: name for name, number in self._counters.items()}
        for one in self._content.perfManager.QueryPerf(specs):
            found = {names.get(series.id.counterId): int(series.value[-1]) for series in one.value if series.value}
            if one.entity == self._host:
                state = found.get(STATE)
            else:
                key = one.entity._moId  # noqa: SLF001 pyVmomi's own name for it
                before = self._felt.get(key, Felt())
                more = found.get(SWAP_IN, 0) * KIB  # KBps over the last sample
                latency = found.get(LATENCY, 0) / 100
                self._felt[key] = Felt(swapped_in_bytes=before.swapped_in_bytes + more, latency_percent=latency)
        return state

    def turn(self, row: Row, wish: Knobs) -> None:
        """Sets shares, reservation and limit of a VM; what is as it was is not sent: a server refuses to be told what it said
        itself (overheadLimit). Raises HypervisorError.
        """
        old, fields = row.knobs, dict[str, Any]()
        if not isinstance(old, Entitlement) or not isinstance(wish, Entitlement):
            raise RefusedError(f"{row.guest.name}: {wish} is not what ESXi has")
        if (wish.shares, wish.level) != (old.shares, old.level):
            fields["shares"] = vim.SharesInfo(level=wish.level, shares=wish.shares)
        if wish.reservation_bytes != old.reservation_bytes:
            fields["reservation"] = wish.reservation_bytes // MIB
        if wish.limit_bytes != old.limit_bytes:
            fields["limit"] = -1 if wish.limit_bytes is None else wish.limit_bytes // MIB
        allocation = vim.ResourceAllocationInfo(**fields)
        with _told(self._where, row.guest.name):
            self.calls["ReconfigVM_Task"] += 1
            machine = vim.VirtualMachine(row.ref, self._stub)
            task = machine.ReconfigVM_Task(vim.vm.ConfigSpec(memoryAllocation=allocation))
            _wait(task, row.guest.name)

    def close(self) -> None:
        """Logs out; what breaks on the way is of no interest."""
        if self._stub is not None:
            with contextlib.suppress(Exception):
                self._content.sessionManager.Logout()
            self._stub.DropConnections()


def _may_suffer(said: dict[str, Any]) -> bool:
    """Whether a VM has swapped, or has a limit."""
    allocation = said.get("config.memoryAllocation")
    return bool(getattr(said.get("summary.quickStats"), "swappedMemory", 0)) or getattr(allocation, "limit", -1) not in (None, -1)


def _wait(task: Any, name: str) -> None:
    """Until a task has ended. pyVim's own way to wait is one message without end, and prints."""
    end = time.monotonic() + TASK_S
    while (info := task.info).state not in {vim.TaskInfo.State.success, vim.TaskInfo.State.error}:
        if time.monotonic() > end:
            raise NoAnswerError(f"{name}: its task is {info.state} after {TASK_S} s; whether it takes effect is not known")
        time.sleep(TASK_POLL_S)
    if info.state == vim.TaskInfo.State.error:
        raise info.error


def _why(fault: Any) -> str:
    return str(getattr(fault, "msg", "") or getattr(fault, "invalidProperty", "") or "refused")


def _check_version(where: VsphereConfig, version: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise RefusedError(f"{where.server} speaks vSphere API {version}; ballonet needs {oldest} or later: upgrade the host")


@contextlib.contextmanager
def _told(where: VsphereConfig, name: str = "") -> Iterator[None]:
    """What goes wrong, as errors of the contract. Never with the password: nothing of the request is quoted."""
    place = f"{where.server}:{where.port}"
    try:
        yield
    except HypervisorError:
        raise
    except vim.fault.InvalidLogin as error:
        text = f"{place}: wrong user or password for {where.user}; see vsphere.user and vsphere.password_file"
        raise DeniedError(text) from error
    except vim.fault.NoPermission as error:
        text = f"{name or place}: {where.user} lacks the privilege {error.privilegeId}; give it a role that has it, on the host"
        raise RefusedError(text) from error
    except vim.fault.RestrictedVersion as error:
        raise RefusedError(f"{place}: the license of this host allows no changes by its API; use mode observe") from error
    except vmodl.fault.ManagedObjectNotFound as error:
        raise GuestGoneError(f"{name or place}: no such VM any more") from error
    except vim.fault.NotAuthenticated as error:
        raise NoAnswerError(f"{place}: the session has ended; it is opened again") from error
    except vmodl.MethodFault as error:
        what = type(error).__name__.rpartition(".")[2]
        raise RefusedError(f"{name or place}: {what}: {_why(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        text = f"{place}: cannot be reached ({error}); see vsphere.server, and whether TCP {where.port} is open"
        raise NoAnswerError(text) from error
