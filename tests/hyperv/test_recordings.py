"""The loopback server's envelopes against what Windows answered, as recorded in the sources of pypsrp."""

import re
import tarfile
from collections.abc import Callable, Iterator
from importlib import metadata
from xml.etree import ElementTree as ET

import pytest
import yaml

from ballonet.hypervisors.contract import HypervisorError
from ballonet.hypervisors.hyperv.session import HypervSession
from ballonet.lab.image import cache_folder
from hyperv.conftest import Server
from hyperv.toy import ToyHost, ToyVm
from hyperv.winrm import NS

Shape = frozenset[tuple[str, ...]]
FAULT = "fault"


def shape(text: str) -> tuple[str, Shape]:
    """The action of an envelope, and the paths of its elements with the names of their attributes."""
    root = ET.fromstring(text)  # noqa: S314 recorded, or our own server's

    def paths(one: ET.Element, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        here = (*above, one.tag)
        yield here
        yield from ((*here, f"@{name}") for name in one.attrib)
        for child in one:
            yield from paths(child, here)

    action = root.findtext("s:Header/a:Action", default="", namespaces=NS)
    return action.rpartition("/")[2], frozenset(paths(root, ()))


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[Shape]]:
    """By action, what Windows answered to PowerShell."""
    path = cache_folder() / f"pypsrp-{metadata.version('pypsrp')}.tar.gz"
    if not path.exists():
        pytest.skip("no recordings of Windows; tools/setup hyperv")
    shapes: dict[str, list[Shape]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if re.search(r"/responses/test_psrp_.*\.yml$", member.name):
                file = archive.extractfile(member)
                assert file is not None
                for message in yaml.safe_load(file)["messages"]:
                    if not str(message.get("response", "")).startswith("<s:Envelope"):
                        continue
                    action, one = shape(message["response"])
                    shapes.setdefault(action, []).append(one)
    return shapes


def test_envelopes_are_as_windows_sends_them(start: Callable[..., Server], recorded: dict[str, list[Shape]]) -> None:
    """Whatever is in each answer of Windows is in ours, and nothing that is in none of them."""
    server = start(ToyHost([ToyVm("a")]))
    session = HypervSession(server.where, "secret")
    session.read()
    server.winrm.faults.append("Command:2150859173")
    with pytest.raises(HypervisorError):
        session.read()
    session.close()
    ours = [shape(text) for text in server.winrm.envelopes]
    assert {action for action, _ in ours} == {
        "CreateResponse",
        "CommandResponse",
        "ReceiveResponse",
        "SignalResponse",
        "DeleteResponse",
        FAULT,
    }
    for action, one in ours:
        assert len(recorded[action]) > 1
        assert frozenset.intersection(*recorded[action]) - one == frozenset(), action
        assert one - frozenset.union(*recorded[action]) == frozenset(), action
