"""One QEMU process of the lab: its command line, its life, its own QMP session and its workload.

Each machine dies with the lab (PR_SET_PDEATHSIG, prctl(2)), however the lab dies.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ballonet.hypervisors.contract import HypervisorError
from ballonet.hypervisors.qemu.qmp import QmpSession
from ballonet.lab.errors import LabError
from ballonet.lab.image import Image
from ballonet.model.units import MIB

QEMU: Final = "qemu-system-x86_64"
RESTORE_DEADLINE_S: Final = 30.0
COMMAND_DEADLINE_S: Final = 30.0
"""Of one QMP command; hosts under a storm are slow."""
SWAP_IOPS: Final = 400
"""Requests a second of a guest's swap disk: a good disk under mixed load. Unthrottled, a swap file lies in the host's
page cache and swapping costs nothing, so that a run with 16,000 swap-ins shows no harm at all."""
_THROTTLE: Final = f"throttling.iops-total={SWAP_IOPS}"

DATA_BYTES: Final = 1 << 40
"""Of a guest's disk of files. It is read and never written, so it takes no space."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Hardware:
    """What a guest is made of. Machines of equal hardware share one template."""

    memory_bytes: int
    accelerator: str = "tcg"
    swap_bytes: int = 512 * MIB
    software: Path | None = None
    """A disk of lab/software.py; None = the guest has none."""
    plugged_bytes: int = 0
    """Part of the memory that is virtio-mem."""
    has_balloon: bool = True
    has_movable_blocks: bool = True
    """What is plugged holds nothing that could not be moved out of it again."""
    has_data: bool = False
    """A disk of files, besides that for swap."""
    apps: Path | None = None
    """A disk of lab/apps.py, which each guest writes a copy of its own of; None = the guest has none."""
    fixed_total: bool = False
    """MemTotal stays while the balloon moves: Linux does that with deflate-on-oom."""

    def words(self) -> list[str]:
        """QEMU's command line without what differs between two machines of the same hardware."""
        accelerator = "kvm" if self.accelerator == "kvm" else "tcg,tb-size=32"
        return [
            *(QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-machine", "pc,memory-backend=ram", "-accel", accelerator, "-smp", "1"),
            *("-cpu", "host" if self.accelerator == "kvm" else "qemu64", "-m", self._memory_words()),
            *(self._balloon_words() if self.has_balloon else ()),
            *("-device", "virtio-serial-pci"),
            *("-device", "virtserialport,chardev=lab,name=org.ballonet.lab.0"),
            *("-device", "virtserialport,chardev=agent,name=org.ballonet.agent.0"),
            *("-device", "virtio-blk-pci,drive=swap"),
            *(self._software_words() if self.software else ()),
            *(("-device", "virtio-blk-pci,drive=data") if self.has_data else ()),
            *(self._apps_words() if self.apps else ()),
        ]

    @property
    def base_bytes(self) -> int:
        """Memory that is not virtio-mem."""
        return self.memory_bytes - self.plugged_bytes

    def _balloon_words(self) -> list[str]:
        return ["-device", f"virtio-balloon-pci,id=balloon0{',deflate-on-oom=on' if self.fixed_total else ''}"]

    def _memory_words(self) -> str:
        most = f",maxmem={2 * self.memory_bytes // MIB}M" if self.plugged_bytes else ""
        return f"{self.base_bytes // MIB}M{most}"

    def _software_words(self) -> list[str]:
        return [
            *("-drive", f"file={self.software},if=none,id=software,format=raw,readonly=on", "-device"),
            *("virtio-blk-pci,drive=software", "-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"),
        ]

    def _apps_words(self) -> list[str]:
        assert self.apps is not None, "asked for where there is one"
        drive = f"file={self.apps},if=none,id=apps,format=raw,cache={_cache_mode(self.apps)},snapshot=on,{_THROTTLE}"
        return ["-drive", drive, "-device", "virtio-blk-pci,drive=apps,serial=apps"]


@dataclass
class Machine:
    """A running guest."""

    name: str
    folder: Path
    hardware: Hardware
    process: asyncio.subprocess.Process
    ram: int
    """A file descriptor of the memory that backs the guest's RAM (memfd_create(2)): gone with its last holder."""
    plugged: int | None = None
    """The same of its virtio-mem."""
    used_at_rest_bytes: int = 0
    """What the guest uses before any work."""
    qmp: QmpSession | None = None
    """The lab's own session: templates, faults. The daemon under test has a socket of its own."""
    port: asyncio.StreamWriter | None = None
    on_report: Callable[[str, list[str]], None] = lambda _name, _words: None
    on_grown: Callable[[str, int], None] = lambda _name, _available: None
    """Told at once when the workload has taken more memory, with MemAvailable after that, in bytes."""
    on_failed: Callable[[str], None] = lambda _why: None
    """Told when an application does not come up in the guest."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def qmp_path(self) -> Path:
        """The socket for the daemon under test."""
        return qmp_folder(self.folder) / f"{self.name}.sock"

    async def connect(self, deadline_s: float) -> None:
        """Opens the lab's QMP session. Raises LabError when QEMU does not answer in time."""
        path = self.folder / f"{self.name}.lab.sock"
        try:
            async with asyncio.timeout(deadline_s):
                while not await self._try_connect(path, deadline_s):
                    if self.process.returncode is not None:
                        raise LabError(f"QEMU for {self.name} ended at once: {self.console_tail()}")
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise LabError(f"QEMU for {self.name} does not answer on {path.name} in {deadline_s} s") from error

    async def _try_connect(self, path: Path, deadline_s: float) -> bool:
        """False while QEMU has not made its socket, or made it and does not listen yet."""
        with contextlib.suppress(HypervisorError):
            self.qmp = await QmpSession.open(str(path), deadline_s)
        return self.qmp is not None

    async def open_port(self) -> None:
        """Opens the channel to the workload and starts reading its reports."""
        reader, self.port = await asyncio.open_unix_connection(self.folder / f"{self.name}.port.sock")
        self._tasks.append(asyncio.create_task(self._read(reader)))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                words = line.decode("ascii", "replace").split()
                if words and words[0] == "report":
                    self.on_report(self.name, words[1:])
                elif words and words[0] == "grown":
                    self.on_grown(self.name, int(words[1]))
                elif words and words[0] == "failed":
                    self.on_failed(" ".join(words[1:]))

    def bury_when_dead(self) -> None:
        """Has the RAM given back when QEMU dies, as the kernel would do if the lab did not hold it too."""

        async def bury() -> None:
            await self.process.wait()
            for memory in self._memories():
                os.ftruncate(memory, 0)

        self._tasks.append(asyncio.create_task(bury()))

    def occupied_bytes(self) -> int:
        """What the guest's RAM really occupies on the host, from the memory that backs it."""
        return sum(os.fstat(memory).st_blocks * 512 for memory in self._memories())

    def _memories(self) -> list[int]:
        return [memory for memory in (self.ram, self.plugged) if memory is not None]

    def tell(self, *words: object) -> None:
        """Sends one command to the workload (lab/image/workload.py has the list). Never waits."""
        if self.port is not None and not self.port.is_closing():
            self.port.write((" ".join(map(str, words)) + "\n").encode())

    async def command(self, name: str, **arguments: Any) -> Any:
        """One QMP command on the lab's own session."""
        if self.qmp is None:
            raise LabError(f"{self.name}: no QMP session")
        return await self.qmp.call(name, Any, COMMAND_DEADLINE_S, **arguments)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to this machine's QEMU."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    def console_tail(self, lines: int = 5) -> str:
        """The last lines of the guest's console and of QEMU's own messages."""
        text = ""
        for suffix in ("console", "log"):
            with contextlib.suppress(OSError):
                text += (self.folder / f"{self.name}.{suffix}").read_text("utf-8", "replace")
        return " / ".join(text.strip().splitlines()[-lines:]) or "it said nothing"

    async def close(self) -> None:
        """Ends the QEMU process. Its folder belongs to the caller who made it."""
        for task in self._tasks:
            task.cancel()
        if self.port is not None:
            self.port.close()
        self.signal(signal.SIGKILL)
        await self.process.wait()
        for memory in self._memories():
            os.close(memory)
        if self.qmp is not None:
            self.qmp.close()


def qmp_folder(folder: Path) -> Path:
    """Where the sockets for the daemon lie, in a run's folder, apart from all else so that a glob finds just them."""
    return folder / "qmp"


@dataclass(frozen=True)
class SavedState:
    """A stopped guest on disk: its devices, its RAM (sparse) and its swap disk (sparse)."""

    folder: Path

    @property
    def devices(self) -> Path:
        """QEMU's migration stream without the RAM."""
        return self.folder / "devices"

    @property
    def ram(self) -> Path:
        """The guest's RAM."""
        return self.folder / "ram"

    @property
    def swap(self) -> Path:
        """The swap disk."""
        return self.folder / "swap"


async def boot(name: str, folder: Path, hardware: Hardware, image: Image, charge: "Charge | None" = None) -> Machine:
    """Starts a guest from its kernel. Raises LabError when QEMU does not start."""
    with (folder / f"{name}.swap").open("ab") as file:
        file.truncate(hardware.swap_bytes)
    words = ["-kernel", str(image.kernel), "-initrd", str(image.initramfs)]
    # Page table isolation flushes QEMU's own translation cache at each system call: ten times slower under TCG.
    # init_on_alloc would zero, and so occupy on the host, each page that the balloon is about to hand over.
    online = "online_movable" if hardware.has_movable_blocks else "online_kernel"
    words += ["-append", f"console=ttyS0 quiet panic=-1 psi=1 mitigations=off init_on_alloc=0 memhp_default_state={online}"]
    return await _start(name, folder, hardware, words, charge or Charge())


async def restore(name: str, folder: Path, hardware: Hardware, saved: SavedState, charge: "Charge") -> Machine:
    """A new guest that goes on where `saved` stopped. Raises LabError when QEMU cannot."""
    await charge.run("cp", "--sparse=always", str(saved.swap), str(folder / f"{name}.swap"))
    machine = await _start(name, folder, hardware, ["-incoming", "defer"], charge, ram_from=saved.ram)
    try:
        await _ignore_shared(machine)
        await machine.command("migrate-incoming", uri=f"exec:cat {saved.devices}")
        async with asyncio.timeout(RESTORE_DEADLINE_S):
            while (await machine.command("query-status"))["status"] == "inmigrate":
                await asyncio.sleep(0.005)
        await machine.command("cont")
        await machine.open_port()
    except BaseException as error:
        await machine.close()
        if isinstance(error, HypervisorError | TimeoutError):
            raise LabError(f"QEMU could not restore {name}: {error!r}; {machine.console_tail()}") from error
        raise
    return machine


async def save(machine: Machine, saved: SavedState) -> None:
    """Stops the guest and saves it; the machine is of no more use. Raises LabError when QEMU cannot."""
    await machine.command("stop")
    await _ignore_shared(machine)
    await machine.command("migrate", uri=f"exec:cat > {saved.devices}")
    while (status := (await machine.command("query-migrate")).get("status")) != "completed":
        if status == "failed":
            raise LabError(f"QEMU could not save {machine.name}: {machine.console_tail()}")
        await asyncio.sleep(0.02)
    await Charge().run("cp", "--sparse=always", f"/proc/{os.getpid()}/fd/{machine.ram}", str(saved.ram))
    await Charge().run("cp", "--sparse=always", str(machine.folder / f"{machine.name}.swap"), str(saved.swap))


async def _ignore_shared(machine: Machine) -> None:
    """Leaves the RAM out of the migration stream: it is copied as a file, holes stay holes, and that is fast.

    In the stream, each zero page would be read once on arrival, and reading a hole of a memfd fills it.
    """
    await machine.command("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])


async def _start(
    name: str, folder: Path, hardware: Hardware, words: list[str], charge: "Charge", ram_from: Path | None = None
) -> Machine:
    qmp_folder(folder).mkdir(exist_ok=True)
    ram = os.memfd_create(f"ballonet-{name}")
    os.ftruncate(ram, hardware.base_bytes)
    if ram_from is not None:
        await charge.run("cp", "--sparse=always", str(ram_from), f"/proc/{os.getpid()}/fd/{ram}")
    plugged, plug_words = _plugged(name, hardware.plugged_bytes)
    swap = folder / f"{name}.swap"
    drive = f"file={swap},if=none,id=swap,format=raw,cache={_cache_mode(swap)},{_THROTTLE}"
    words = [
        *hardware.words(),
        *("-object", f"memory-backend-file,id=ram,size={hardware.base_bytes},share=on,mem-path=/proc/self/fd/{ram}"),
        *("-name", name, "-serial", f"file:{folder / name}.console"),
        *("-qmp", f"unix:{qmp_folder(folder) / name}.sock,server=on,wait=off"),
        *("-qmp", f"unix:{folder / name}.lab.sock,server=on,wait=off"),
        *("-chardev", f"socket,id=lab,path={folder / name}.port.sock,server=on,wait=off"),
        *("-chardev", f"socket,id=agent,path={folder / name}.agent.sock,server=on,wait=off"),
        *("-chardev", f"socket,id=qga,path={folder / name}.qga.sock,server=on,wait=off"),
        *("-drive", drive),
        *(_data_words(folder / f"{name}.data") if hardware.has_data else ()),
        *plug_words,
        *words,
    ]
    with (folder / f"{name}.log").open("wb") as log:
        process = await charge.spawn(*words, log=log.fileno(), keep=tuple(filter(None, (ram, plugged))))
    machine = Machine(name, folder, hardware, process, ram, plugged=plugged)
    machine.bury_when_dead()
    try:
        await machine.connect(deadline_s=20)
    except BaseException:
        await machine.close()
        raise
    return machine


def _data_words(path: Path) -> list[str]:
    """QEMU's words for a disk of files: sparse, and as fast as that for swap."""
    with path.open("ab") as file:
        file.truncate(DATA_BYTES)
    return ["-drive", f"file={path},if=none,id=data,format=raw,cache={_cache_mode(path)},{_THROTTLE}"]


def _plugged(name: str, size: int) -> tuple[int | None, list[str]]:
    """Memory for a virtio-mem device, all of it plugged, and QEMU's words for that."""
    if not size:
        return None, []
    plugged = os.memfd_create(f"ballonet-{name}-plugged")
    os.ftruncate(plugged, size)
    backend = f"memory-backend-file,id=plugged,size={size},share=on,mem-path=/proc/self/fd/{plugged}"
    device = f"virtio-mem-pci,id=vmem0,memdev=plugged,requested-size={size},block-size=2M"
    return plugged, ["-object", backend, "-device", device]


@dataclass(frozen=True)
class Charge:
    """Who is charged for the memory of the processes started here: a cgroup, or nobody in particular."""

    procs: Path | None = None
    """The cgroup's `cgroup.procs`; None = the lab's own cgroup."""

    async def spawn(self, *words: str, log: int, keep: tuple[int, ...] = ()) -> asyncio.subprocess.Process:
        """Starts a process that dies with the lab, in the cgroup from its first page on."""
        return await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=keep, preexec_fn=self._enter
        )

    async def run(self, *words: str) -> None:
        """Runs a process to its end. Raises LabError when it fails."""
        process = await self.spawn(*words, log=asyncio.subprocess.DEVNULL)
        if await process.wait():
            raise LabError(f"`{' '.join(words)}` failed; is the disk full?")

    def _enter(self) -> None:
        """In the child: a process group of its own, so that Ctrl-C reaches the lab only; killed with the lab."""
        os.setpgid(0, 0)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if self.procs is not None:
            self.procs.write_text(str(os.getpid()))


def _cache_mode(swap: Path) -> str:
    """`none` where the file system can do without the page cache, so that swap is as slow as its throttle says."""
    try:
        os.close(os.open(swap, os.O_RDWR | os.O_DIRECT))
    except OSError:
        return "writeback"
    return "none"
