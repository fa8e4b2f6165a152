"""Orders belong to a guest, whatever it is called: by its UUID, with the name beside it."""

import msgspec
import pytest

from ballonet.control.messages import HoldOrder, Orders
from ballonet.control.orders import bound, deflates, held, key_of, order_of, with_guest, with_hold, without_hold
from ballonet.model.snapshot import Guest
from ballonet.model.terms import UNSAID, Terms
from ballonet.model.units import GIB
from ballonet.status.errors import ConflictError

WHY = HoldOrder(why="backup")


def guest(name: str, uuid: str = "") -> Guest:
    return Guest(name=name, ceiling_bytes=GIB, uuid=uuid)


def on_hold(orders: Orders, *guests: Guest) -> list[bool]:
    return [bool(held(orders, one, 0.0)) for one in guests]


def ordered(name: str, *guests: Guest) -> Orders:
    orders = with_hold(Orders(), key_of(Orders(), name, guests), WHY, 0.0, name)
    return bound(orders, guests)


def test_a_hold_stays_with_its_guest_whatever_it_is_called() -> None:
    """Two VMs of one name: which of them is called so may change with each start of the daemon."""
    orders = ordered("web", guest("web", "101"), guest("web-102", "102"))
    assert on_hold(orders, guest("web", "102"), guest("web-101", "101")) == [False, True]
    again = msgspec.json.decode(msgspec.json.encode(orders), type=Orders)
    assert on_hold(again, guest("web", "102"), guest("other", "101")) == [False, True]


def test_what_is_ordered_of_a_guest_that_is_not_up_waits_for_it() -> None:
    """By name until one of that name comes, and that one's from then on."""
    orders = ordered("db")
    assert on_hold(orders, guest("db", "7"), guest("web", "8")) == [True, False]
    orders = bound(orders, [guest("db", "7")])
    assert (list(orders.holds), orders.names) == (["7"], {"7": "db"})
    assert on_hold(orders, guest("renamed", "7"), guest("db", "9")) == [True, False]
    assert bound(orders, [guest("db", "9")]) is orders


def test_a_guest_without_a_uuid_is_known_by_its_name() -> None:
    """There is nothing else."""
    orders = ordered("plain", guest("plain"))
    assert on_hold(orders, guest("plain"), guest("other")) == [True, False]


@pytest.mark.parametrize("called", ["web", "101"])
def test_a_guest_is_let_go_by_name_or_uuid_up_or_not(called: str) -> None:
    """And nothing of it is left behind."""
    orders = ordered("web", guest("web", "101"))
    for guests in ([guest("web", "101")], []):
        gone = without_hold(orders, key_of(orders, called, guests))
        assert (gone.holds, gone.names) == ({}, {})


def test_settings_go_with_the_guest() -> None:
    """As holds do; what is set later is added."""
    orders = with_guest(Orders(), "101", {"shares": 7}, "web")
    orders = with_guest(orders, "101", {"floor_bytes": GIB}, "web")
    assert order_of(orders, guest("anything", "101")) == Terms(shares=7, floor_bytes=GIB)
    assert order_of(orders, guest("web", "102")) == UNSAID
    assert with_guest(orders, "101", {"shares": None, "floor_bytes": None}, "web").guests == {}


def test_a_hold_comes_before_what_is_given_back() -> None:
    """The panic button stops that too, whichever of the two came first and of how many guests each is."""
    back, still = HoldOrder(deflates=True, for_s=60), HoldOrder()
    one = Guest(name="vm", ceiling_bytes=1, uuid="u")
    for first, second in ((("u", back), ("", still)), (("", back), ("u", still)), (("u", still), ("", back))):
        orders = Orders()
        for key, order in (first, second):
            orders = with_hold(orders, key, order, 0.0, "vm" if key else "")
        assert not deflates(orders, one, 1.0)
        assert "all of its memory" not in held(orders, one, 1.0)
    assert deflates(with_hold(Orders(), "u", back, 0.0, "vm"), one, 1.0)
    assert not deflates(with_hold(Orders(), "u", back, 0.0, "vm"), one, 61.0)
    with pytest.raises(ConflictError, match="ballonet release vm"):
        with_hold(with_hold(Orders(), "u", still, 0.0, "vm"), "u", back, 0.0, "vm")
