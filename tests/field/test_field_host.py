"""Limits around guests, wherever the daemon runs. Scripted guests at real QMP sockets, the daemon in mode act."""

from field_host import Field

GIB = 1 << 10


def test_a_slice_is_the_host_of_those_in_it(field_of: Field) -> None:
    """13 GiB for a slice on a host of 128: three guests of 8 that use 2 and keep 18 together come to rest below it."""
    field_of.host(128 * GIB, own=64 * GIB, groups={"/machine.slice": 13 * GIB})
    for number in range(3):
        rise = [(10, 6 * GIB, 700)] if number == 0 else []
        group = f"/machine.slice/vm-{number}.scope"
        field_of.guest(f"vm-{number}", 8 * GIB, keep=6 * GIB, use=[(0, 2 * GIB, 1e9), *rise], group=group)
    field_of.run()
    field_of.until(lambda: sum(one["keep"] for one in field_of.states().values()) <= 13 * GIB)
    field_of.until(lambda: field_of.state("vm-0")["used"] >= 6 * GIB - 1)
    field_of.until(lambda: field_of.state("vm-0")["keep"] > 6 * GIB)
    field_of.always(lambda: sum(one["resident"] for one in field_of.states().values()) <= 13 * GIB, 3)
    assert sum(one["paged_out"] for one in field_of.states().values()) == 0


def test_a_limit_around_some_binds_those_alone(field_of: Field) -> None:
    """Two of four lie in a slice of 9 GiB: they share it, the others have what the host has."""
    field_of.host(64 * GIB, own=GIB, groups={"/qemu.slice": 9 * GIB})
    for number in range(2):
        field_of.guest(f"in-{number}", 8 * GIB, use=[(0, 3 * GIB, 1e9)], group=f"/qemu.slice/10{number}.scope")
        field_of.guest(f"out-{number}", 8 * GIB, use=[(0, 3 * GIB, 1e9)], group=f"/other.slice/20{number}.scope")
    field_of.run()
    field_of.until(lambda: sum(field_of.state(f"in-{n}")["keep"] for n in range(2)) <= 9 * GIB)
    assert [field_of.state(f"out-{n}")["keep"] for n in range(2)] == [8 * GIB, 8 * GIB]
    assert min(one["lowest"] for one in field_of.states().values()) > 3 * GIB


def test_a_limit_of_its_own_bounds_a_guest(field_of: Field) -> None:
    """A hard limit of 5 GiB on a VM of 8: it is never given more than that."""
    field_of.host(64 * GIB, own=GIB, groups={"/machine.slice/a.scope": 5 * GIB})
    field_of.guest("a", 8 * GIB, keep=4 * GIB, use=[(0, 2 * GIB, 1e9), (4, 4700, 800)], group="/machine.slice/a.scope")
    field_of.guest("b", 8 * GIB, keep=4 * GIB, use=[(0, 2 * GIB, 1e9)], group="/machine.slice/b.scope")
    field_of.run()
    field_of.until(lambda: field_of.told("a").ceiling_bytes <= 5 << 30)
    field_of.until(lambda: field_of.state("a")["used"] >= 4699)
    field_of.always(lambda: field_of.state("a")["keep"] <= 5 * GIB, 4)
