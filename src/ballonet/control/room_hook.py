#!/usr/bin/python3 -IS
"""Asks ballonet for memory before a VM starts: a hook of libvirt and of Proxmox VE, and a line for a systemd unit.

    /etc/libvirt/hooks/qemu.d/50-ballonet                  libvirt calls it: NAME OPERATION SUB-OPERATION EXTRA, XML on stdin
    qm set VMID --hookscript local:snippets/ballonet-room  Proxmox VE calls it: VMID PHASE
    ExecStartPre=/usr/share/ballonet/room-hook web-3 16GiB in the unit of a plain QEMU

`ballonet hook` puts it there. One file that needs the standard library alone, and starts in a twentieth of a second: libvirtd
holds the VM's lock meanwhile, and programs that list VMs wait for that (libvirt, docs/hooks.rst). It asks libvirt nothing, never
writes to stdout, and takes no longer than its time: when something goes wrong the VM starts, unless its operator says otherwise.
"""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import tomllib
import xml.etree.ElementTree as ET
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
UNITS = {"b": 1, "bytes": 1, "k": 1024, "kib": 1024, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30, "t": 1 << 40,
         "tib": 1 << 40, "kb": 1000, "mb": 10**6, "gb": 10**9, "tb": 10**12}  # fmt: skip
LIBVIRT = {"prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect", "attach"}
PHASES = {"pre-start", "post-start", "pre-stop", "post-stop"}
READY = {"ready", "taken", "settled"}


class Down(Exception):  # noqa: N818 no error of this program
    """Nobody answers."""


def main(words: list[str]) -> int:
    """Does what the call is for. Gives the exit code: 0 lets the VM start."""
    settings = read_settings()
    # Longer than this nobody waits, whatever hangs; a hook that is killed refuses the start, so this one ends by itself.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0 if settings["when_down"] == "start" else refused("it did not answer")))
    operation = words[1] if len(words) > 1 else ""
    if operation in LIBVIRT:
        return of_libvirt(words[0], operation, words[2] if len(words) > 2 else "", settings)
    if operation in PHASES:
        return of_proxmox(words[0], operation, settings)
    if len(words) not in (2, 3):
        sys.stderr.write("usage: room-hook NAME SIZE [SECONDS]\n")
        return 2
    settings["hook_wait_s"] = float(words[2]) if len(words) == 3 else 60.0
    return ask(words[0], words[0], size_of(words[1]), settings)


def of_libvirt(name: str, operation: str, sub: str, settings: dict[str, Any]) -> int:
    """`prepare` comes before each start, restore and incoming migration, `release` after each that failed or ended."""
    if (operation, sub) not in {("prepare", "begin"), ("release", "end")}:
        return 0
    domain = ET.fromstring(sys.stdin.buffer.read())  # noqa: S314 libvirt's own text
    key = domain.findtext("uuid") or name
    if operation == "release":
        return cancel(key, settings)
    memory = domain.find("memory")
    if memory is None or not memory.text:
        return 0
    return ask(key, name, int(memory.text) * UNITS[memory.get("unit", "KiB").lower()], settings)


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
    return ask(key, name, int(memory[0] if memory else 512) << 20, settings)


def ask(key: str, name: str, size: int, settings: dict[str, Any]) -> int:
    """Asks for a room, and waits for it. Gives the exit code."""
    wait_s = settings["hook_wait_s"]
    signal.setitimer(signal.ITIMER_REAL, wait_s + 1.0)
    order = {"bytes": size + settings["overhead"], "least_bytes": size, "name": name, "wait_s": wait_s}
    try:
        room = call("PUT", key, order, settings)
    except Down as error:
        return 0 if settings["when_down"] == "start" else refused(f"no room for {name}: {error}")
    # A host that only watches keeps no rooms, and is in nobody's way.
    if (
        room["state"] in READY
        or settings["when_refused"] == "start"
        or room["reason"] in {"room-mode", "room-peer", "room-others"}
    ):
        return 0
    return refused("\n".join([room["sentence"], *(f"- {one}" for one in room["helps"])]))


def cancel(key: str, settings: dict[str, Any]) -> int:
    """Takes it back, where it was not taken."""
    signal.setitimer(signal.ITIMER_REAL, 2.0)
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
        with open(CONFIG, "rb") as file:
            said = tomllib.load(file)
        found["socket"] = said.get("control", {}).get("socket", found["socket"])
        room = said.get("room", {})
        found["when_refused"] = room.get("when_refused", found["when_refused"])
        found["when_down"] = room.get("when_down", found["when_down"])
        found["hook_wait_s"] = float(room.get("hook_wait_s", found["hook_wait_s"]))
        found["overhead"] = size_of(room["overhead"]) if "overhead" in room else found["overhead"]
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    return found


def size_of(text: str) -> int:
    """Bytes: 16GiB, 512M. Raises ValueError."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]+)\s*", text)
    if match is None or match[2].lower() not in UNITS:
        raise ValueError(f"{text!r} is not a size; write it like 16GiB")
    return int(float(match[1]) * UNITS[match[2].lower()])


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 whatever it is, it is no reason for a VM not to start
        sys.stderr.write(f"ballonet: {error}; the VM starts without a room\n")
        code = 0
    sys.exit(code)
