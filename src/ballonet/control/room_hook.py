#!/usr/bin/python3 -IS
"""Asks ballonet for memory before a VM starts: a hook of libvirt and of Proxmox VE, and a line for a systemd unit.

    /etc/libvirt/hooks/qemu.d/50-ballonet                  libvirt calls it: NAME OPERATION SUB-OPERATION EXTRA, XML on stdin
    qm set VMID --hookscript local:snippets/ballonet-room  Proxmox VE calls it: VMID PHASE
    ExecStartPre=/usr/share/ballonet/room-hook web-3 16GiB in the unit of a plain QEMU

`ballonet hook` puts it there. One file that needs the standard library alone, and starts in a twentieth of a second: libvirtd
holds the VM's lock meanwhile, and programs that list VMs wait for that (libvirt, docs/hooks.rst). It asks libvirt nothing, never
writes to stdout, and takes no longer than its time: when something goes wrong the VM starts, unless its operator says otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from typing import Any

CONFIG = os.environ.get("BALLONET_CONFIG", "/etc/ballonet/ballonet.toml")
PVE = "/etc/pve/qemu-server"
DEFAULTS = {
    "hook_wait_s": 5.0,
    "when_refused": "start",
    "when_down": "start",
    "overhead": 96 << 20,
    "socket": "/run/ballonet/control.sock",
}
UNITS = {
    "b": 0,
    "k": 10,
    "kib": 10,
    "kb": 10,
    "m": 20,
    "mib": 20,
    "mb": 20,
    "g": 30,
    "gib": 30,
    "gb": 30,
    "t": 40,
    "tib": 40,
    "tb": 40,
}
"""Powers of two, as ballonet reads sizes."""
LIBVIRT_UNITS = {"b": 1, "bytes": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
"""libvirt's of ten (docs/formatdomain); its others are powers of two."""
LIBVIRT = {"prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect", "attach"}
PHASES = {"pre-start", "post-start", "pre-stop", "post-stop"}
READY = {"ready", "taken", "settled"}
OPEN = {"asked", "queued", "gathering"}
NO_REFUSAL = {"room-mode", "room-watched", "room-peer", "room-others", "room-runs"}
"""A host that keeps no rooms, or has this VM already, is in nobody's way."""


class Down(Exception):  # noqa: N818 no error of this program
    """Nobody answers."""


def main(words: list[str]) -> int:
    """Does what the call is for. Gives the exit code: 0 lets the VM start."""
    settings = read_settings()
    operation = words[1] if len(words) > 1 else ""
    is_unit = operation not in LIBVIRT | PHASES
    if is_unit and len(words) not in (2, 3):
        sys.stderr.write("usage: room-hook NAME SIZE [SECONDS]\n")
        return 2
    if is_unit:
        settings["hook_wait_s"] = float(words[2]) if len(words) == 3 else 60.0
    # Longer than this nobody waits, whatever hangs; a hook that is killed refuses the start, so this one ends by itself.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(down("ballonet did not answer in time", settings)))
    signal.setitimer(signal.ITIMER_REAL, settings["hook_wait_s"] + 1.0)
    try:
        if operation in LIBVIRT:
            return of_libvirt(words[0], operation, words[2] if len(words) > 2 else "", settings)
        if operation in PHASES:
            return of_proxmox(words[0], operation, settings)
        return ask(words[0], words[0], size_of(words[1]), settings)
    except Exception as error:  # noqa: BLE001 whatever it is, it counts as no answer
        if (operation, *words[2:3]) in {("prepare", "begin"), ("pre-start",)} or is_unit:
            return down(f"the hook of ballonet failed: {error!r}", settings)
        return 0


def down(why: str, settings: dict[str, Any]) -> int:
    """The exit code where nothing has been heard of a room."""
    return 0 if settings["when_down"] == "start" else refused(why)


def of_libvirt(name: str, operation: str, sub: str, settings: dict[str, Any]) -> int:
    """`prepare` comes before each start, restore and incoming migration, `release` after each that failed or ended."""
    if (operation, sub) not in {("prepare", "begin"), ("release", "end")}:
        return 0
    import xml.etree.ElementTree as ET  # noqa: PLC0415 most calls do without

    domain = ET.fromstring(sys.stdin.buffer.read())  # noqa: S314 libvirt's own text
    key = domain.findtext("uuid") or name
    if operation == "release":
        return cancel(key, settings)
    memory = domain.find("memory")
    if memory is None or not memory.text:
        return 0
    unit = memory.get("unit", "KiB").lower()
    size = int(memory.text) * (LIBVIRT_UNITS[unit] if unit in LIBVIRT_UNITS else 1 << UNITS[unit])
    # Huge pages come from a pool of their own: only QEMU itself takes ordinary memory then.
    return ask(key, name, 0 if domain.find("memoryBacking/hugepages") is not None else size, settings)


def of_proxmox(vmid: str, phase: str, settings: dict[str, Any]) -> int:
    """`pre-start` comes before each start and incoming migration; no phase comes after a start that failed."""
    if phase not in {"pre-start", "post-stop"}:
        return 0
    with open(f"{PVE}/{vmid}.conf") as file:
        text = file.read().split("\n[")[0]  # what follows are snapshots
    keys = dict(re.findall(r"^(\w+): *(.*)$", text, re.MULTILINE))
    uuid = re.search(r"uuid=([0-9a-fA-F-]{36})", keys.get("smbios1", ""))
    name = keys.get("name", vmid)
    key = uuid[1].lower() if uuid else name
    if phase == "post-stop":
        return cancel(key, settings)
    memory = re.search(r"\d+", keys.get("memory", "512"))
    return ask(key, name, 0 if "hugepages" in keys else int(memory[0] if memory else 512) << 20, settings)


def ask(key: str, name: str, size: int, settings: dict[str, Any]) -> int:
    """Asks for a room, and goes on asking while it is to wait: one answer comes within half a minute. Gives the exit code."""
    end = time.monotonic() + settings["hook_wait_s"]
    while True:
        left = max(0.0, end - time.monotonic())
        least = size or settings["overhead"]
        order = {"bytes": size + settings["overhead"], "least_bytes": least, "name": name, "wait_s": round(left, 1)}
        try:
            room = call("PUT", key, order, settings)
        except Down as error:
            return down(f"no room for {name}: {error}", settings)
        if room["state"] not in OPEN or time.monotonic() >= end:
            break
    if room["state"] in READY or settings["when_refused"] == "start" or room["reason"] in NO_REFUSAL:
        return 0
    return refused("\n".join([room["sentence"], *(f"- {one}" for one in room["helps"])]))


def cancel(key: str, settings: dict[str, Any]) -> int:
    """Takes it back, where it was not taken."""
    with contextlib.suppress(Down):
        call("DELETE", key, None, settings)
    return 0


def refused(why: str) -> int:
    """What libvirt, Proxmox VE and systemd show to the operator who wanted to start it."""
    sys.stderr.write(why + "\n")
    sys.stderr.flush()
    return 1


def call(method: str, key: str, body: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """One request to the daemon. Raises Down."""
    path = re.sub(rb"[^A-Za-z0-9-]", lambda one: b"%%%02X" % ord(one[0]), key.encode()).decode()
    text = b"" if body is None else json.dumps(body).encode()
    head = f"{method} /v1/rooms/{path} HTTP/1.0\r\nHost: ballonet\r\nContent-Length: {len(text)}\r\n\r\n"
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(settings["hook_wait_s"] + 10.0)
            one.connect(settings["socket"])
            one.sendall(head.encode() + text)
            answer = b""
            while data := one.recv(65536):
                answer += data
        head_of, _, content = answer.partition(b"\r\n\r\n")
        found: dict[str, Any] = json.loads(content)
    except (OSError, ValueError) as error:
        raise Down(f"no daemon answers at {settings['socket']} ({error})") from error
    if b" 200 " not in head_of.split(b"\r\n")[0]:
        raise Down(str(found.get("error", "it said no")))
    return found


def read_settings() -> dict[str, Any]:
    """Of the daemon's configuration; what cannot be read there is as it is without one."""
    found: dict[str, Any] = dict(DEFAULTS)
    try:
        import tomllib  # noqa: PLC0415 Python 3.11; an older one goes by what is above

        with open(CONFIG, "rb") as file:
            said = tomllib.load(file)
        found["socket"] = said.get("control", {}).get("socket", found["socket"])
        room = said.get("room", {})
        found["when_refused"] = room.get("when_refused", found["when_refused"])
        found["when_down"] = room.get("when_down", found["when_down"])
        found["hook_wait_s"] = float(room.get("hook_wait_s", found["hook_wait_s"]))
        found["overhead"] = size_of(room["overhead"]) if "overhead" in room else found["overhead"]
    except (ImportError, OSError, ValueError, AttributeError, TypeError):
        pass
    return found


def size_of(text: str) -> int:
    """Bytes: 16GiB, 512M. Raises ValueError."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]+)\s*", text)
    if match is None or match[2].lower() not in UNITS:
        raise ValueError(f"{text!r} is not a size; write it like 16GiB")
    return int(float(match[1]) * (1 << UNITS[match[2].lower()]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
