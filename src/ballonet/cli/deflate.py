"""`ballonet deflate`: all memory back to guests, for a maintenance, a backup, or before ballonet is removed."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from msgspec import Struct
from msgspec.structs import replace
from rich.progress import Progress

from ballonet.cli.console import UNMET, USAGE, ConfigPath, Json, err, out, write_json
from ballonet.cli.daemon import client, hold_order, named, socket_of
from ballonet.cli.look import opened
from ballonet.cli.status import status_from
from ballonet.control.client import Client, NoDaemonError
from ballonet.control.messages import HoldOrder
from ballonet.control.orders import OrderBook, standing, with_hold
from ballonet.control.routes import HOLD, HOLD_ALL, ORDERS, STATUS
from ballonet.daemon.config import PATH, Config, read_config
from ballonet.daemon.locks import Locks
from ballonet.daemon.loop import Loop
from ballonet.hypervisors.local.alone import NOT_HEARD
from ballonet.model.knobs import Steering
from ballonet.model.plan import limit_of
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Guest, Mode
from ballonet.model.terms import GuestSettings, Terms
from ballonet.model.text import typed
from ballonet.model.tick import Tick
from ballonet.model.units import MIB, format_size
from ballonet.sense.host import host_sense
from ballonet.sense.observer import Observer
from ballonet.status.errors import ControlError
from ballonet.status.tell import status_of
from ballonet.status.words import GuestStatus, Status

STILL_S: Final = 15.0
"""When nothing has come back for this long, what is missing is told: a balloon that moves gives some each second."""
NEAR_BYTES: Final = MIB
NO_DAEMON: Final = "ballonet deflate"
"""Why, for guests that are given their memory back by this command alone."""


class Deflated(Struct, frozen=True, kw_only=True):
    """`ballonet.deflated/1`: which guests have all of their memory again, and what the others lack."""

    schema: str = "ballonet.deflated/1"
    done: tuple[str, ...]
    missing: dict[str, int]
    """Bytes by guest."""
    why: dict[str, str]
    """By guest: why it lacks them."""


class Planned(Struct, frozen=True, kw_only=True):
    """`ballonet.deflate-plan/1`: what `--dry-run` says."""

    schema: str = "ballonet.deflate-plan/1"
    missing: dict[str, int]
    """Bytes by guest: what it does not have of what it may have."""
    sentences: tuple[str, ...]


def deflate(
    vm: Annotated[str, typer.Argument(help="A guest's name, as `ballonet status` shows it.")] = "",
    every: Annotated[bool, typer.Option("--all", help="All guests.")] = False,
    span: Annotated[str | None, typer.Option("--for", help="For how long: 30m, 2h; until `ballonet release` without it.")] = None,
    why: Annotated[str, typer.Option(help="The reason, for others to read.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    config: ConfigPath = PATH,
    json: Json = False,
) -> None:
    """Give a guest all of its memory back, or all guests, and leave it there: for a maintenance, or before ballonet is removed.

    It comes out of what the host has free and of what other guests can spare; what others use or fill with cache stays theirs.
    Says first what it would do. `ballonet release` lets them be ballooned again. Exits 1 when not all of it came back.
    """
    if bool(vm and named(vm)) == every:
        raise SettingsError("which guests? Name one, or give --all")
    order = hold_order(span, why, deflates=True)
    found = status_from(config)
    chosen = _chosen(found, vm)
    refusal = _refusal(config, chosen, order, vm)
    if refusal and not dry_run:
        raise ControlError(refusal)
    plan = (*_plan(found, chosen), *([f"As it stands, nothing of this is done: {refusal}"] if refusal else []))
    for line in () if dry_run and json else plan:
        err.print(line)
    if dry_run:
        if json:
            write_json(Planned(missing={guest.name: _missing(guest) for guest in chosen}, sentences=plan))
        return
    if not (yes or _is_confirmed()):
        raise typer.Exit(UNMET)
    _show(_through_daemon(config, vm, order) or _by_ourselves(read_config(config), vm, order, chosen), json=json, chosen=chosen)


def _refusal(config: Path, chosen: Sequence[GuestStatus], order: HoldOrder, vm: str) -> str:
    """Why the daemon that runs would do nothing of it, and what to do first; empty = it would, or none runs."""
    if not socket_of(config).exists():
        return ""
    try:
        with client(config) as daemon:
            mode, orders = daemon.ask(STATUS).host.mode, daemon.ask(ORDERS)
        if mode is not Mode.ACT:
            return f"mode {mode.value}: nothing is sent to guests; first `ballonet mode act`"
        if all(guest.mode is not Mode.ACT for guest in chosen):
            modes = ", ".join(f"{guest.name} {guest.mode.value}" for guest in chosen)
            first = typed("set", chosen[0].name, "--mode act")
            return f"nothing is sent to guests of such modes: {modes}; first `{first}`"
        with_hold(orders, (chosen[0].uuid or vm) if vm else "", order, time.time(), vm)
    except NoDaemonError:
        return ""
    except ControlError as error:
        return str(error)
    return ""


def _is_confirmed() -> bool:
    if not sys.stdin.isatty():
        err.print("to do so without being asked: --yes")
        raise typer.Exit(USAGE)
    return typer.confirm("Give back what can come?", err=True)


def _chosen(found: Status, vm: str) -> list[GuestStatus]:
    chosen = [guest for guest in found.guests if vm in ("", guest.name, guest.uuid)]
    if not chosen:
        names = ", ".join(guest.name for guest in found.guests) or "none at all"
        raise ControlError(f"no guest {vm!r} here; there are: {names}" if vm else "no guest answers; `ballonet doctor` says more")
    return chosen


def _missing(guest: GuestStatus) -> int:
    """What it does not have of what it may have; all, while nobody has heard what it keeps."""
    return max(0, guest.ceiling_bytes - (guest.keep_bytes or 0))


def _unpromised(guest: GuestStatus) -> int:
    """The same, without what is on its way to it already."""
    coming = guest.target_bytes or 0 if guest.is_command else 0
    return max(0, guest.ceiling_bytes - max(guest.keep_bytes or 0, coming))


def _may_take(guest: GuestStatus) -> int:
    """What it may take without asking, also where nobody has heard of it yet; who is left alone, what it holds."""
    held = guest.resident_bytes or 0
    return held if guest.leave_alone and guest.leave_alone != NOT_HEARD else max(held, guest.keep_bytes or 0)


def _plan(found: Status, chosen: Sequence[GuestStatus]) -> Iterator[str]:
    """What it would do."""
    wanted = sum(map(_missing, chosen))
    for guest in chosen:
        if more := _missing(guest):
            now, then = format_size(guest.keep_bytes or 0), format_size(guest.ceiling_bytes)
            yield f"{guest.name}: {format_size(more)} back, from {now} to {then}"
    for guest in chosen:
        if guest.given_bytes is not None:
            given = format_size(guest.given_bytes)
            yield f"{guest.name}: its ceiling of {format_size(guest.ceiling_bytes)} stands, of {given} that it was given"
    if not wanted:
        yield "nothing is missing: they have all of their memory, and stay as they are from now on"
        return
    host = found.host
    free = max(0, host.guests_bytes - max(host.promised_bytes, sum(map(_may_take, found.guests))) - host.reserve_bytes)
    spare = _spare(found.guests, chosen)
    others = f"; other guests keep {format_size(spare)} beyond their needs, some of it cache" if spare else ""
    yield (
        f"{format_size(wanted)} in all. The host has {format_size(free)} that no guest has been promised, besides its reserve of"
        f" {format_size(host.reserve_bytes)}{others}."
    )
    if (more := sum(map(_unpromised, chosen)) - free - spare) > 0:
        yield (
            f"So at least {format_size(more)} of it cannot come back now: this host has lent more than it has. The rest comes"
            " now, and more as it comes free."
        )
    yield from _limited(found, chosen)
    yield f"{'These guests are' if len(chosen) > 1 else 'It is'} on hold then, with all of that, until `ballonet release`."


def _spare(guests: Sequence[GuestStatus], chosen: Sequence[GuestStatus]) -> int:
    """What others than those chosen keep beyond their needs."""
    names = {guest.name for guest in chosen}
    others = [guest for guest in guests if guest.name not in names and not guest.leave_alone]
    return sum(max(0, (guest.keep_bytes or 0) - (guest.need_bytes or guest.ceiling_bytes)) for guest in others)


def _limited(found: Status, chosen: Sequence[GuestStatus]) -> Iterator[str]:
    """Where a limit around some guests has less than they lack."""
    for limit in found.limits:
        inside = [guest for guest in found.guests if guest.name in limit.guests]
        lacking = sum(_unpromised(guest) for guest in chosen if guest.name in limit.guests)
        free = max(0, limit.guests_bytes - max(limit.promised_bytes, sum(map(_may_take, inside))))
        if (more := lacking - free - _spare(inside, chosen)) > 0:
            full = f"{limit_of(limit.name)} has {format_size(free)} left for its guests"
            yield f"At least {format_size(more)} cannot come back now: {full}, whatever the host has free; raise it first."


def _through_daemon(config: Path, vm: str, order: HoldOrder) -> Deflated | None:
    """Ordered of the daemon, and waited for; None = no daemon runs."""
    if not socket_of(config).exists():
        return None
    try:
        with client(config) as daemon:
            daemon.ask(HOLD if vm else HOLD_ALL, vm, body=order)
            return _waited(daemon, vm)
    except NoDaemonError:
        return None


def _waited(daemon: Client, vm: str) -> Deflated:
    with _bar() as wait:
        for status in daemon.live():
            chosen = [guest for guest in status.guests if vm in ("", guest.name, guest.uuid)]
            if wait.is_over(chosen):
                return _outcome(chosen)
    raise NoDaemonError("the daemon ended meanwhile")


class Wait:
    """Until all is back, or nothing comes any more."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._bar = progress, progress.add_task("given back", total=None)
        self._least, self._at, self._first = 1 << 62, time.monotonic(), 0

    def is_over(self, guests: Sequence[GuestStatus]) -> bool:
        """Whether to wait no longer, by how they are now."""
        missing, now = sum(map(_missing, guests)), time.monotonic()
        self._first = max(self._first, missing)
        if missing < self._least - NEAR_BYTES:
            self._least, self._at = missing, now
        self._progress.update(self._bar, total=self._first or 1, completed=self._first - missing)
        return missing <= NEAR_BYTES * len(guests) or now - self._at > STILL_S


@contextmanager
def _bar() -> Iterator[Wait]:
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        yield Wait(progress)


def _outcome(guests: Sequence[GuestStatus]) -> Deflated:
    lacking = [guest for guest in guests if _missing(guest) > NEAR_BYTES]
    return Deflated(
        done=tuple(guest.name for guest in guests if guest not in lacking),
        missing={guest.name: _missing(guest) for guest in lacking},
        why={guest.name: guest.trouble or guest.sentence for guest in lacking},
    )


async def _alone(config: Config, vm: str) -> Deflated:
    """Without a daemon: a loop of our own, until it is done. The others are only watched."""

    def settings(guest: Guest) -> GuestSettings:
        if vm in ("", guest.name, guest.uuid):
            return GuestSettings(Terms(mode=Mode.ACT), hold=NO_DAEMON, deflates=True)
        return GuestSettings(Terms(mode=Mode.OBSERVE))

    locks = Locks()
    locks.take_steered(config)
    async with opened(config) as hypervisor:
        if hypervisor.capabilities.steering is not Steering.TARGET:
            raise SettingsError("only balloons of this host are deflated; `ballonet restore` puts other hypervisors' knobs back")
        eye = Observer(host_sense(hypervisor, Path(config.host.root)), hypervisor, settings)
        found: asyncio.Future[Deflated] = asyncio.get_running_loop().create_future()
        start = time.monotonic()
        with _bar() as wait:

            def on_tick(tick: Tick) -> None:
                guests = status_of(tick, at=time.time(), mode=Mode.ACT).guests
                chosen = [guest for guest in guests if vm in ("", guest.name, guest.uuid)]
                is_there = bool(chosen) or time.monotonic() - start > STILL_S
                if is_there and not found.done() and wait.is_over(chosen):
                    found.set_result(_outcome(chosen))

            # Nothing else is done to a host for whose guests memory is to be had.
            limits = replace(config.limits(), may_ksm=False, may_reclaim=False)
            loop = asyncio.create_task(Loop(eye, hypervisor, limits, on_tick=on_tick).run())
            waiting: set[asyncio.Future[Any]] = {found, loop}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
        return await found if found.done() else _nothing(loop)


def _nothing(loop: asyncio.Task[None]) -> Deflated:
    raise ControlError(f"it cannot be done: {None if loop.cancelled() else loop.exception()}; `ballonet doctor` says more")


def _by_ourselves(config: Config, vm: str, order: HoldOrder, chosen: Sequence[GuestStatus]) -> Deflated:
    """Without a daemon; the order is kept for when there is one again. Raises ControlError, SettingsError."""
    book, now = OrderBook(Path(config.control.state) / "orders.json"), time.time()
    orders, _ = book.read(now)
    key, name = (chosen[0].uuid or chosen[0].name, chosen[0].name) if vm else ("", "")
    kept = with_hold(standing(orders, now), key, order, now, name)
    found = asyncio.run(_alone(config, vm))
    book.write(kept)
    return found


def _show(found: Deflated, *, json: bool, chosen: Sequence[GuestStatus]) -> None:
    gone = {guest.name for guest in chosen} - {*found.done, *found.missing}
    for name in sorted(gone):
        err.print(f"{name} is gone meanwhile")
    if json:
        write_json(found)
    elif found.done:
        out.print(f"{', '.join(found.done)}: all memory is back")
    for name, missing in found.missing.items():
        err.print(f"{name} lacks {format_size(missing)} still: {found.why[name]}")
    if found.missing or gone:
        raise typer.Exit(UNMET)
