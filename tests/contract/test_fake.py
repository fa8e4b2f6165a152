from ballonet.hypervisors.fake import FakeGuest, FakeHypervisor
from ballonet.testing import check_hypervisor


async def test_fake_keeps_the_contract() -> None:
    """The fake adapter passes the suite that real ones pass."""
    await check_hypervisor(FakeHypervisor([FakeGuest("a"), FakeGuest("b")]), "a")
