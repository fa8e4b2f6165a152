"""A toy of Hyper-V behind the cmdlets that ballonet uses, with the documented rules of Set-VMMemory. Not a Hyper-V host."""

import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

GIB = 1 << 30
MIB = 1 << 20


class CmdletError(Exception):
    """An error record: its id, and what it says."""

    def __init__(self, code: str, text: str, target: str = "") -> None:
        super().__init__(text)
        self.code, self.target = code, target


@dataclass
class ToyVm:
    """One VM."""

    name: str
    startup: int = 2 * GIB
    minimum: int = GIB
    maximum: int = 8 * GIB
    buffer: int = 20
    priority: int = 50
    demand: int = GIB
    assigned: int = 2 * GIB
    is_dynamic: bool = True
    is_running: bool = True
    id: uuid.UUID = field(default_factory=uuid.uuid4)


@dataclass
class ToyHost:
    """A host with VMs."""

    vms: list[ToyVm]
    memory: int = 64 * GIB
    is_admin: bool = True
    has_counters: bool = True
    has_module: bool = True
    refused: list[str] = field(default_factory=list)
    """What was asked for and is forbidden."""
    set: list[dict[str, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, name: str) -> ToyVm:
        """By name."""
        return next(vm for vm in self.vms if vm.name == name)

    def balance(self) -> None:
        """Everybody gets demand and buffer while there is memory, by priority."""
        left = self.memory - 2 * GIB
        for vm in sorted(self.vms, key=lambda one: -one.priority):
            if vm.is_running and vm.is_dynamic:
                ideal = int(vm.demand * (1 + vm.buffer / 100)) // (2 * MIB) * 2 * MIB
                vm.assigned = min(max(ideal, vm.minimum), vm.maximum, max(vm.minimum, left))
            left -= vm.assigned if vm.is_running else 0

    def run(self, statement: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """One statement: cmdlets with their parameters, each given what the one before it gave. Raises CmdletError."""
        objects: list[Any] = []
        with self.lock:
            for name, parameters in statement:
                run: Any = {
                    "Get-VM": self._get_vm,
                    "Get-VMMemory": self._get_memory,
                    "Get-CimInstance": self._get_cim,
                    "Set-VMMemory": self._set_memory,
                    "Select-Object": _select,
                }.get(name)
                if run is None or (not self.has_module and "VM" in name):
                    raise CmdletError("CommandNotFoundException", f"The term '{name}' is not recognized", name)
                objects = run(objects, parameters)
        return objects

    def _get_vm(self, _objects: list[Any], parameters: Mapping[str, Any]) -> list[ToyVm]:
        if not self.is_admin:
            raise CmdletError(
                "AccessDenied,Microsoft.HyperV.PowerShell.Commands.GetVM", "You do not have the required permission"
            )
        if "Id" not in parameters:
            self.balance()
            return list(self.vms)
        found = [vm for vm in self.vms if str(vm.id) == str(parameters["Id"])]
        if not found:
            raise CmdletError("ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.GetVM", "Hyper-V was unable to find a VM")
        return found

    def _get_memory(self, _objects: list[Any], parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        assert parameters == {"VMName": "*"}
        return [
            {"VMId": vm.id, "Minimum": vm.minimum, "Maximum": vm.maximum, "Buffer": vm.buffer, "Priority": vm.priority}
            for vm in self.vms
        ]

    def _get_cim(self, _objects: list[Any], parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        name = parameters["ClassName"]
        if name == "Win32_OperatingSystem":
            free = self.memory - sum(vm.assigned for vm in self.vms if vm.is_running)
            return [{"TotalVisibleMemorySize": self.memory // 1024, "FreePhysicalMemory": max(0, free) // 1024}]
        if not self.has_counters:
            raise CmdletError("HRESULT 0x80041003,Microsoft.Management.Infrastructure.CimCmdlets.GetCim", "Access denied", name)
        return [
            {
                "Name": vm.name,
                "CurrentPressure": 100 * vm.demand // vm.assigned,
                "GuestVisiblePhysicalMemory": max(vm.assigned, vm.startup) // MIB,
            }
            for vm in self.vms
            if vm.is_running and vm.is_dynamic
        ]

    def _set_memory(self, objects: list[ToyVm], parameters: Mapping[str, Any]) -> list[Any]:
        for vm in objects:
            self.set.append({key: int(value) for key, value in parameters.items()})
            try:
                _check(vm, parameters)
            except CmdletError as error:
                self.refused.append(str(error))
                raise
            for key, value in parameters.items():
                setattr(vm, NAMES[key], int(value))
        return []


NAMES = {"MinimumBytes": "minimum", "MaximumBytes": "maximum", "Buffer": "buffer", "Priority": "priority"}
CODE = "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.SetVMMemory"


def _check(vm: ToyVm, parameters: Mapping[str, Any]) -> None:
    """What Microsoft documents of Set-VMMemory."""
    if unknown := set(parameters) - set(NAMES):
        raise CmdletError(CODE, f"no parameter {unknown}")
    minimum, maximum = (int(parameters.get(key, getattr(vm, NAMES[key]))) for key in ("MinimumBytes", "MaximumBytes"))
    if not vm.is_dynamic:
        raise CmdletError(CODE, "Dynamic Memory is not enabled")
    if vm.is_running and (minimum > vm.minimum or maximum < vm.maximum):
        raise CmdletError(CODE, "while it runs the minimum can be lowered only, and the maximum raised only")
    if minimum > vm.startup or maximum < vm.startup or minimum % (2 * MIB) or maximum % (2 * MIB):
        raise CmdletError(CODE, "minimum, startup and maximum are not in order, or no multiple of 2 MB")
    if not 5 <= int(parameters.get("Buffer", vm.buffer)) <= 2000 or not 0 <= int(parameters.get("Priority", vm.priority)) <= 100:
        raise CmdletError(CODE, "buffer or priority out of range")


def _select(objects: list[Any], parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{str(key): _said(one).get(str(key)) for key in parameters["Property"]} for one in objects]


def _said(one: Any) -> Mapping[str, Any]:
    if not isinstance(one, ToyVm):
        return dict(one)
    speaks = one.is_running and one.is_dynamic
    return {
        "VMName": one.name,
        "VMId": one.id,
        "State": "Running" if one.is_running else "Off",
        "DynamicMemoryEnabled": one.is_dynamic,
        "MemoryAssigned": one.assigned if one.is_running else 0,
        "MemoryDemand": one.demand if speaks else 0,
        "MemoryStatus": ("Low" if one.demand > one.assigned else "OK") if speaks else "",
        "MemoryStartup": one.startup,
    }
