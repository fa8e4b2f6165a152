"""News that is none: on it nobody loses memory. Scripted guests at real QMP sockets, the daemon in mode act."""

import pytest

from field_host import Field


def tight(field_of: Field, **script: object) -> None:
    """A host on which everybody's spare is wanted, a guest that misbehaves and uses 3 of 4 GiB, and one that rises."""
    field_of.host(10 << 10, own=0)
    field_of.guest("odd", 4096, **({"use": [(0, 3000, 1e9)]} | script))
    field_of.guest("riser", 8192, keep=4000, use=[(0, 2000, 1e9), (6, 5500, 800)], cache=1500)


@pytest.mark.parametrize("says", ["nothing", "total"])
def test_statistics_that_say_nothing(field_of: Field, says: str) -> None:
    """They come, and are empty from the start: it keeps what it has, and status says that its driver says nothing."""
    tight(field_of, says=says)
    field_of.run()
    field_of.until(lambda: field_of.state("riser")["used"] >= 5499)
    field_of.always(lambda: field_of.state("odd")["lowest"] == 4096, 3)
    assert "without statistics" in field_of.told("odd").sentence


def test_statistics_that_fall_silent(field_of: Field) -> None:
    """They were good, and are empty while what it uses rises."""
    tight(field_of, use=[(0, 1000, 1e9), (8, 3000, 1e9)])
    field_of.run(reserve=2000)
    field_of.until(lambda: field_of.told("odd").used_bytes is not None)
    field_of.say("odd", says="nothing")
    field_of.until(lambda: field_of.told("odd").reason == "stale")
    keep = field_of.state("odd")["keep"]
    field_of.until(lambda: field_of.state("riser")["used"] >= 5499)
    field_of.always(lambda: field_of.state("odd")["keep"] == keep, 3)


def test_a_last_update_in_the_future_is_no_news(field_of: Field) -> None:
    """It stands an hour ahead and does not move: its age is from when it was first seen."""
    tight(field_of, update_ahead=3600.0)
    field_of.run()
    field_of.until(lambda: (field_of.told("odd").stats_age_s or 0) > 5)
    keep = field_of.state("odd")["keep"]
    field_of.until(lambda: field_of.state("riser")["used"] >= 5499)
    field_of.always(lambda: field_of.state("odd")["keep"] == keep, 3)
    assert field_of.told("odd").reason == "stale"
