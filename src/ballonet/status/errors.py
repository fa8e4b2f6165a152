"""What cannot be answered, or not done, and why."""

from msgspec import Struct


class Trouble(Struct, frozen=True, kw_only=True):
    """Every answer that is none."""

    error: str
    """What is wrong, where, and what to do about it."""


class ControlError(Exception):
    """Something cannot be done; the text says why, and what to do instead."""

    status: int = 400
    """Of HTTP."""


class NoSuchGuestError(ControlError):
    """No guest of that name."""

    status = 404


class NoSuchMomentError(ControlError):
    """History has nothing of that time, or there is none."""

    status = 404


class ConflictError(ControlError):
    """It contradicts what stands."""

    status = 409


class BusyError(ControlError):
    """Others' questions come first, or it took too long."""

    status = 503


class NotYetError(ControlError):
    """The daemon has just started."""

    status = 503
