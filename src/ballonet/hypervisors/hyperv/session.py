"""One session with a Hyper-V host: PowerShell remoting by pypsrp, blocking, for a thread. Errors are one line each that says what
mends it.

Structured cmdlets only: names and parameters, never a line of script, so that nothing that a VM is called can be run, and an
endpoint of Just Enough Administration serves as well. One pipeline with four statements is a tick.
"""

import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import requests
from pypsrp.complex_objects import ObjectMeta, PSInvocationState
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from ballonet.hypervisors.contract import GuestGoneError, HypervisorError, NoAnswerError, RefusedError
from ballonet.hypervisors.hyperv.config import HypervConfig
from ballonet.hypervisors.hyperv.rows import COUNTERS, MEMORY, SYSTEM, VM, host_of, vm_row
from ballonet.hypervisors.remote.adapter import DeniedError, Picture, Row, reached
from ballonet.model.knobs import Bounds, Knobs

DEADLINE_S: Final = 10
PIPELINE_S: Final = 30
"""For one pipeline. Each message has DEADLINE_S."""
PERF: Final = "Win32_PerfFormattedData_BalancerStats_HyperVDynamicMemoryVM"
"""Not Get-Counter: its paths are in the language of the host."""
PARAMETERS: Final = {
    "minimum_bytes": ("MinimumBytes", "I64"),
    "maximum_bytes": ("MaximumBytes", "I64"),
    "buffer_percent": ("Buffer", "I32"),
    "priority": ("Priority", "I32"),
}
"""Of Set-VMMemory. pypsrp sends each number as 32 bits unless it is told."""
ACCESS_DENIED: Final = 5

logging.getLogger("pypsrp").setLevel(logging.CRITICAL)  # it tells of each retry with a stack trace; what went wrong is raised


class HypervSession:
    """Open until it is closed or breaks."""

    def __init__(self, where: HypervConfig, password: str) -> None:
        """Logs in. Raises HypervisorError."""
        self._where = where
        self.calls: Counter[str] = Counter()
        """How often what was asked of the server."""
        self._pool: Any = None
        with _told(where):
            if where.tls:
                reached(where.server, where.winrm_port, where.ca_file, DEADLINE_S, "hyperv.ca_file")
            else:
                socket.create_connection((where.server, where.winrm_port), DEADLINE_S).close()
            trusted: Any = where.ca_file or True  # a path too, says requests
            connection = WSMan(
                where.server,
                port=where.winrm_port,
                username=where.user,
                password=password,
                ssl=where.tls,
                auth=where.auth,
                cert_validation=trusted,
                connection_timeout=DEADLINE_S,
                operation_timeout=DEADLINE_S,
                read_timeout=2 * DEADLINE_S,
                reconnection_backoff=0.2,
                no_proxy=True,
            )
            self._pool = RunspacePool(connection, configuration_name=where.endpoint)
            self._pool.open()

    def read(self) -> Picture:
        """The host and its VMs now. Raises HypervisorError."""
        shell = PowerShell(self._pool)
        _select(shell.add_cmdlet("Get-VM"), VM)
        _select(shell.add_cmdlet("Get-VMMemory").add_parameter("VMName", "*"), MEMORY)
        _select(shell.add_cmdlet("Get-CimInstance").add_parameter("ClassName", "Win32_OperatingSystem"), SYSTEM)
        _select(shell.add_cmdlet("Get-CimInstance").add_parameter("ClassName", PERF), COUNTERS)
        return _picture(self._run(shell, "read", may_fail=PERF), self._where)

    def turn(self, row: Row, wish: Knobs) -> None:
        """Sets what differs of a VM's memory. Raises HypervisorError."""
        old = row.knobs
        if not isinstance(old, Bounds) or not isinstance(wish, Bounds):
            raise RefusedError(f"{row.guest.name}: {wish} is not what Hyper-V has")
        fields = {name: value for name in PARAMETERS if (value := getattr(wish, name)) != getattr(old, name)}
        if not fields:
            return
        shell = PowerShell(self._pool)
        shell.add_cmdlet("Get-VM").add_parameter("Id", row.ref).add_cmdlet("Set-VMMemory")
        for name, value in fields.items():
            parameter, kind = PARAMETERS[name]
            shell.add_parameter(parameter, self._pool.serialize(value, ObjectMeta(kind)))
        self._run(shell, "set", row.guest.name)

    def _run(self, shell: Any, what: str, name: str = "", may_fail: str = "") -> list[dict[str, Any]]:
        with _told(self._where, name):
            self.calls[what] += 1
            shell.begin_invoke()
            end = time.monotonic() + PIPELINE_S
            while shell.state == PSInvocationState.RUNNING:
                if time.monotonic() > end:  # pypsrp asks again and again
                    raise NoAnswerError(f"{name or self._where.server}: {what}: no end in {PIPELINE_S} s; the host may hang")
                shell.poll_invoke(timeout=DEADLINE_S)
            shell.close()
            for error in shell.streams.error:  # had_errors is of those only that end a pipeline
                if not (may_fail and may_fail in _blamed(error)):
                    raise _refusal(self._where, name, error)
            return [_properties(one) for one in shell.output]

    def close(self) -> None:
        """Logs out; what breaks on the way is of no interest."""
        if self._pool is not None:
            with contextlib.suppress(Exception):
                self._pool.close()
            with contextlib.suppress(Exception):
                self._pool.connection.close()


def _select(shell: Any, names: tuple[str, ...]) -> None:
    """A few properties each: whole VMs are a hundred times as long."""
    shell.add_cmdlet("Select-Object").add_parameter("Property", list(names)).add_statement()


def _properties(one: Any) -> dict[str, Any]:
    return {**getattr(one, "adapted_properties", {}), **getattr(one, "extended_properties", {})}


def _picture(said: list[dict[str, Any]], where: HypervConfig) -> Picture:
    """Told apart by what they have."""
    system = next((one for one in said if SYSTEM[0] in one), None)
    if system is None:
        raise RefusedError(f"{where.server}: it does not say how much memory it has; {where.user} must be a local administrator")
    memory = {str(one["VMId"]): one for one in said if "Buffer" in one}
    counters = {str(one["Name"]): one for one in said if "CurrentPressure" in one}
    host = host_of(system)
    vms = [one for one in said if "MemoryAssigned" in one]
    rows = [
        vm_row(vm, memory[key], counters.get(str(vm["VMName"]), {}), host) for vm in vms if (key := str(vm["VMId"])) in memory
    ]
    return Picture(host=host, rows=tuple(rows))


def _blamed(error: Any) -> str:
    """What an error record says that it is of."""
    return f"{getattr(error, 'target_object', '')} {getattr(error, 'fq_error', '')} {error}"


def _refusal(where: HypervConfig, name: str, error: Any) -> HypervisorError:
    """An error record of a cmdlet, as errors of the contract."""
    code, text = str(getattr(error, "fq_error", "") or ""), " ".join(str(error).split())
    place = f"{name or where.server}"
    if "CommandNotFound" in code:
        return RefusedError(
            f"{place}: it has no Hyper-V cmdlets ({text}); on the host: Install-WindowsFeature Hyper-V-PowerShell"
        )
    if "AccessDenied" in code or "permission" in text:
        return RefusedError(f"{place}: {where.user} may not ({text}); add it to the group Hyper-V Administrators of the host")
    if "ObjectNotFound" in code:
        return GuestGoneError(f"{place}: no such VM any more ({text})")
    return RefusedError(f"{place}: {text} ({code})")


@contextlib.contextmanager
def _told(where: HypervConfig, name: str = "") -> Iterator[None]:
    """What goes wrong, as errors of the contract. Never with the password: nothing of the request is quoted."""
    place = f"{where.server}:{where.winrm_port}"
    try:
        yield
    except HypervisorError:
        raise
    except AuthenticationError as error:
        how = f"user, password, or that the host takes {where.auth}"
        raise DeniedError(f"{place}: {where.user} is not let in; see {how}, and hyperv.user, hyperv.password_file") from error
    except WSManFaultError as error:
        raise _fault(place, where, error) from error
    except WinRMTransportError as error:
        raise NoAnswerError(
            f"{place}: HTTP {error.code}; is WinRM there? On the host: winrm quickconfig -transport:https"
        ) from error
    except (requests.Timeout, TimeoutError) as error:
        raise NoAnswerError(f"{name or place}: no answer in time; whether it took effect is not known") from error
    except (OSError, requests.RequestException) as error:
        text = f"{place}: cannot be reached ({_reason(error)}); see hyperv.server, and whether TCP {where.winrm_port} is open"
        raise NoAnswerError(text) from error
    except (WinRMError, ValueError, SyntaxError) as error:  # ElementTree's is the last
        raise NoAnswerError(f"{place}: what it says is not PowerShell remoting as it should be ({error})") from error


def _fault(place: str, where: HypervConfig, error: Any) -> HypervisorError:
    reason = " ".join(str(error.reason or error.provider_fault or "refused").split())
    if error.code == ACCESS_DENIED:
        group = "Remote Management Users, or have a right to the endpoint"
        return RefusedError(f"{place}: {where.user} may not open {where.endpoint}; it must be in the group {group} ({reason})")
    return NoAnswerError(f"{place}: WinRM fault {error.code}: {reason}; the session is opened again")


def _reason(error: BaseException) -> str:
    """The innermost of it: requests and urllib3 wrap what the system says."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", "") or error)
