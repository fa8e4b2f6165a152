"""QMP peers that misbehave: no crash, an error that says what, and nothing taken for true."""

import asyncio
from pathlib import Path

import pytest

from ballonet.hypervisors.contract import NoAnswerError
from ballonet.hypervisors.qemu.adapter import QemuHypervisor
from ballonet.hypervisors.qemu.qmp import QmpSession

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}\r\n'


@pytest.mark.parametrize("says", [b"garbage\r\n", b'{"QMP": ', b"", GREETING + b"\xff\xfe nonsense\r\n"])
async def test_peer_that_is_no_qmp(tmp_path: Path, says: bytes) -> None:
    """Garbage, half a line, nothing, or garbage after the greeting is an error in time."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(peer, str(tmp_path / "q.sock"))
    async with server:
        with pytest.raises(NoAnswerError, match=r"q\.sock"):
            await QmpSession.open(str(tmp_path / "q.sock"), 0.3)


async def test_socket_without_anybody(tmp_path: Path) -> None:
    """A socket file that nobody listens on is an error, and the adapter goes on without the guest."""
    (tmp_path / "dead.sock").write_text("")
    with pytest.raises(NoAnswerError):
        await QmpSession.open(str(tmp_path / "dead.sock"), 0.3)
    hypervisor = QemuHypervisor((str(tmp_path / "*.sock"),))
    await hypervisor.open()
    await asyncio.sleep(0.2)
    assert hypervisor.guests() == ()
    await hypervisor.close()
