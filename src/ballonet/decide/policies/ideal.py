"""All memory that each guest was promised: the yardstick of lab and simulator, for a host without a budget."""

from ballonet.decide.table import Table
from ballonet.model.plan import Reason


def divide(table: Table) -> None:
    """Wishes each guest its ceiling."""
    for seat in table.seats:
        if seat.may_give or seat.may_take:
            seat.say(seat.guest.ceiling_bytes, Reason.SPARE, need_bytes=seat.need_lasting_bytes)
