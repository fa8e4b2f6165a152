"""Peers that speak QMP on real sockets and answer by a script: for what takes more guests than a machine can boot.

    python -m ballonet.lab.scripted FOLDER PREFIX COUNT SIZE_MIB

serves FOLDER/PREFIX-0.sock and so on until it is killed. A simulated guest, not a real one: its balloon moves at a fixed
speed and its use swings slowly, each guest in its own time. None of its RAM is ever touched.
"""

import asyncio
import json
import math
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

GIB: Final = 1 << 30
MOVES_PER_S: Final = GIB
SWING_S: Final = 300.0
BALLOON: Final = "/machine/peripheral/balloon0"
GREETING: Final = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}


class ScriptedGuest:
    """One guest."""

    def __init__(self, name: str, number: int, size_bytes: int) -> None:
        self.name, self._number, self._size_bytes = name, number, size_bytes
        self._actual, self._target, self._at = float(size_bytes), size_bytes, time.monotonic()
        self._uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, name))

    def _moved(self) -> int:
        now = time.monotonic()
        way = MOVES_PER_S * (now - self._at)
        self._actual += max(-way, min(way, self._target - self._actual))
        self._at = now
        return int(self._actual)

    def _used(self) -> int:
        return int(self._size_bytes * (0.4 + 0.1 * math.sin(2 * math.pi * (time.monotonic() / SWING_S + self._number / 7))))

    def _stats(self) -> dict[str, Any]:
        total = self._moved()
        available = max(0, total - self._used())
        return {
            "last-update": int(time.time()),
            "stats": {
                "stat-total-memory": total,
                "stat-free-memory": available,
                "stat-available-memory": available,
                "stat-disk-caches": 0,
                "stat-swap-in": 0,
                "stat-swap-out": 0,
                "stat-major-faults": 0,
            },
        }

    def answer(self, command: str, arguments: dict[str, Any]) -> Any:
        """What a command returns; None = it is not known here."""
        if command == "balloon":
            self._moved()
            self._target = int(arguments["value"])
            return {}
        if command == "qom-get":
            return {"guest-stats": self._stats(), "free-page-reporting": False}.get(arguments["property"])
        if command == "qom-list":
            return (
                [{"name": "balloon0", "type": "child<virtio-balloon-pci>"}] if arguments["path"] in BALLOON.rsplit("/", 1) else []
            )
        return {
            "qmp_capabilities": {},
            "qom-set": {},
            "query-name": {"name": self.name},
            "query-uuid": {"UUID": self._uuid},
            "query-version": GREETING["QMP"]["version"],
            "query-memory-size-summary": {"base-memory": self._size_bytes, "plugged-memory": 0},
            "query-memory-devices": [],
            "query-balloon": {"actual": self._moved()},
            "query-status": {"status": "running", "running": True},
            "query-migrate": {},
            "query-blockstats": [],
        }.get(command)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        writer.write(json.dumps(GREETING).encode() + b"\n")
        try:
            async for asked in _requests(reader):
                found = self.answer(asked.get("execute", ""), asked.get("arguments", {}))
                told = {"error": {"class": "CommandNotFound", "desc": "not scripted"}} if found is None else {"return": found}
                writer.write(json.dumps(told | ({"id": asked["id"]} if "id" in asked else {})).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def _requests(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """QMP is a stream of JSON values; nothing says that each ends a line."""
    text, decoder = "", json.JSONDecoder()
    while data := await reader.read(1 << 16):
        text = (text + data.decode()).lstrip()
        while text:
            try:
                asked, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                break  # the rest is on its way
            yield asked
            text = text[end:].lstrip()


async def serve(folder: Path, prefix: str, count: int, size_mib: int) -> None:
    """Serves `count` guests for ever."""
    # RAM of which nothing is touched: the host measures it as that of a real guest, one file each, and finds none of it.
    os.ftruncate(os.memfd_create(prefix), size_mib << 20)
    for number in range(count):
        guest = ScriptedGuest(f"{prefix}-{number}", number, size_mib << 20)
        await asyncio.start_unix_server(guest.serve, folder / f"{quote(guest.name, safe='')}.sock")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
