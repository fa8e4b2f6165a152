"""Templates: one booted guest of each hardware, saved, and restored as often as guests are needed.

Ten boots under TCG take half a minute on two cores, ten restores a few seconds.
"""

import asyncio
import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from ballonet.lab.apps import apps_disk
from ballonet.lab.errors import LabError
from ballonet.lab.image import Image, build_image, cache_folder
from ballonet.lab.machine import QEMU, Charge, Hardware, Machine, SavedState, boot, restore, save
from ballonet.lab.mortal import mortal_folder
from ballonet.lab.software import software_disk

BOOT_DEADLINE_S = {"kvm": 12.0, "tcg": 90.0}
"""A real KVM guest is up in 2 s. Where /dev/kvm opens and yet boots nothing (nested set-ups), 12 s tell."""


@dataclass(frozen=True)
class Template:
    """A saved guest."""

    hardware: Hardware
    saved: SavedState
    base_bytes: int
    """What the guest uses before any work: its memory less MemAvailable, when it was saved."""

    async def restore(self, name: str, folder: Path, charge: Charge | None = None) -> Machine:
        """A new guest `name` in `folder`, running, its workload idle."""
        machine = await restore(name, folder, self.hardware, self.saved, charge or Charge())
        machine.used_at_rest_bytes = self.base_bytes
        return machine


async def booted(name: str, folder: Path, charge: Charge, hardware: Hardware) -> Machine:
    """A guest with virtio-mem, booted for itself: what is plugged is no part of a template.

    Raises:
        LabUnavailableError: no QEMU or no packages here.
        LabError: the guest did not boot.
    """
    image = await asyncio.to_thread(build_image)
    hardware = replace(hardware, accelerator=await _accelerator(image))
    memory_bytes = hardware.memory_bytes
    machine = await boot(name, folder, hardware, image, charge)
    try:
        words = await _up(machine)
    except BaseException:
        await machine.close()
        raise
    machine.used_at_rest_bytes = memory_bytes - int(words[7])
    return machine


async def template(
    memory_bytes: int, *, has_software: bool = False, fixed_total: bool = False, has_data: bool = False, has_apps: bool = False
) -> Template:
    """The template for guests of `memory_bytes`, from the cache or booted now; KVM where it boots a guest, else TCG.

    With `has_software`, they have the disk of lab/software.py; with `fixed_total`, their MemTotal stays while the balloon moves;
    with `has_data`, they have a disk of files; with `has_apps`, that of lab/apps.py.

    Raises:
        LabUnavailableError: no QEMU or no packages here.
        LabError: the guest did not boot; the console's last words are in the text.
    """
    image = await asyncio.to_thread(build_image)
    disk = await asyncio.to_thread(software_disk) if has_software else None
    hardware = Hardware(
        memory_bytes,
        await _accelerator(image),
        software=disk,
        fixed_total=fixed_total,
        has_data=has_data,
        apps=await asyncio.to_thread(apps_disk) if has_apps else None,
    )
    return await _cached(image, hardware)


async def _accelerator(image: Image) -> str:
    """`kvm` when a guest reached its workload under it in time on this boot of the host, else `tcg`."""
    if not Path("/dev/kvm").exists():
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    verdict = cache_folder() / f"kvm-{boot_id}-{image.checksum}"
    if not verdict.exists():
        try:
            await _cached(image, Hardware(512 << 20, "kvm"))
            verdict.write_text("kvm")
        except LabError:
            verdict.write_text("tcg")
    return verdict.read_text()


async def _cached(image: Image, hardware: Hardware) -> Template:
    version = await asyncio.to_thread(subprocess.check_output, [QEMU, "--version"])
    code = (Path(__file__).parent / "machine.py").read_bytes()
    recipe = [image.checksum.encode(), version, code, *(word.encode() for word in hardware.words())]
    folder = cache_folder() / f"template-{hashlib.sha256(b'|'.join(recipe)).hexdigest()[:16]}"
    if not (folder / "facts.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with mortal_folder("saving-", folder.parent) as partial:
            await _make(image, hardware, SavedState(partial))
            partial.rename(folder)
    facts = json.loads((folder / "facts.json").read_text())
    return Template(hardware, SavedState(folder), facts["base_bytes"])


async def _make(image: Image, hardware: Hardware, saved: SavedState) -> None:
    # In /tmp: a unix socket's name has 107 characters, and the cache may lie deep.
    with mortal_folder("ballonet-template-") as work:
        machine = await boot("template", work, hardware, image)
        try:
            words = await _up(machine)
            await save(machine, saved)
        finally:
            await machine.close()
    facts = {"base_bytes": hardware.memory_bytes - int(words[7]), "memtotal_bytes": int(words[6])}
    (saved.folder / "facts.json").write_text(json.dumps(facts))


async def _up(machine: Machine) -> list[str]:
    """Waits for a guest that boots. Gives its report. Raises LabError when it does not come up."""
    reports: asyncio.Queue[list[str]] = asyncio.Queue()
    machine.on_report = lambda _name, words: reports.put_nowait(words)
    accelerator = machine.hardware.accelerator
    try:
        async with asyncio.timeout(BOOT_DEADLINE_S[accelerator]):
            await machine.open_port()
            return await _settled(machine, reports)
    except TimeoutError as error:
        deadline_s = BOOT_DEADLINE_S[accelerator]
        text = f"no guest under {accelerator} in {deadline_s:.0f} s; its console: {machine.console_tail()}"
        raise LabError(text) from error


async def _settled(machine: Machine, reports: asyncio.Queue[list[str]]) -> list[str]:
    """The third report: the first ones still count what booting left behind. LabError when QEMU ends before it."""
    ended = asyncio.create_task(machine.process.wait())
    report = asyncio.create_task(_third(reports))
    try:
        await asyncio.wait((ended, report), return_when=asyncio.FIRST_COMPLETED)
        if not report.done():
            raise LabError(f"the guest ended while it booted; its console: {machine.console_tail()}")
        return report.result()
    finally:
        ended.cancel()
        report.cancel()
        await asyncio.gather(ended, report, return_exceptions=True)


async def _third(reports: asyncio.Queue[list[str]]) -> list[str]:
    await reports.get()
    await reports.get()
    return await reports.get()
