"""Equal fixed parts of the host for every guest, whatever each needs. What one does without a controller."""

from ballonet.decide.table import Table
from ballonet.model.plan import Reason


def divide(table: Table) -> None:
    """Wishes each guest an equal part of the host's memory."""
    part = table.total_bytes // max(1, len(table.seats))
    for seat in table.seats:
        if seat.may_give or seat.may_take:
            seat.say(min(part, seat.guest.ceiling_bytes), Reason.STATIC)
