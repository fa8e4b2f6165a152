"""`ballonet top`: the host and its guests, live, with what can be done about one."""

import time
from datetime import datetime
from typing import ClassVar, Final

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Static
from textual.worker import get_current_worker

from ballonet.control.client import Client
from ballonet.control.messages import HoldOrder
from ballonet.control.routes import EXPLANATION, HOLD, HOLD_ALL, RELEASE, RELEASE_ALL
from ballonet.model.text import typed, visible
from ballonet.model.units import format_size
from ballonet.status.errors import ControlError
from ballonet.status.explain import STATES
from ballonet.status.words import BOUND, Explanation, GuestStatus, Status

COLUMNS: Final = ("guest", "keep", "of", "used", "need", "resident", "mode", "reason", "")
BAR: Final = 24
"""Characters of a guest's bar: what it uses, what it keeps, what it has."""
RETRY_S: Final = 1.0


HELP: Final = """Keys
  arrows  choose a guest      e  why it keeps what it keeps
  s       short guests first  H  hold the guest, or let it go
  q       quit                A  hold all guests, or let them go

Columns
  keep     what its balloon leaves it; "of": its ceiling, with its balloon empty
  used     without page cache that could be freed     need   what it should have, with a margin
  resident what its RAM occupies on the host          bar    # used, = keep, . ceiling"""


class Words(ModalScreen[str]):
    """Something to be read or answered, closed by a key."""

    CSS = "Words { align: center middle; } Words Static { width: auto; max-width: 90; height: auto; padding: 1 2; }"

    def __init__(self, text: str, keys: dict[str, str]) -> None:
        """Args:
        text: to be read.
        keys: what each does.
        """
        super().__init__()
        shown = "\n".join(visible(line) for line in text.split("\n"))
        self._text = f"{shown}\n\n" + "   ".join(f"{key}: {what}" for key, what in keys.items())

    def compose(self) -> ComposeResult:
        """The box."""
        yield Static(self._text, markup=False)

    def on_key(self, event: Key) -> None:
        """Closes it, and hands the key on to the caller."""
        event.stop()
        self.dismiss(event.key)


class Top(App[None]):
    """Live until `q`."""

    TITLE = "ballonet"
    CSS = "#host { padding: 0 1; } #why { padding: 0 1; height: auto; max-height: 12; } DataTable { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,h,f1", "help", "help", key_display="?"),
        Binding("e", "explain", "explain"),
        Binding("escape", "note", "close", show=False),
        Binding("s", "sort", "sort"),
        Binding("H", "hold", "hold or release"),
        Binding("A", "hold_all", "hold or release all"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, client: Client, note: str = "") -> None:
        """Args:
        client: of the daemon; closed by the caller who made it.
        note: to be read first.
        """
        super().__init__()
        self._client, self._note = client, note
        self._status: Status | None = None
        self._by_need = False

    def compose(self) -> ComposeResult:
        """The host, the guests, and why the chosen one keeps what it keeps."""
        yield Static("waiting for the daemon", id="host", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Static("\n".join(visible(line) for line in self._note.split("\n")), id="why", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Begins to listen."""
        self._table.add_columns(*COLUMNS)
        self._listen()

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one(DataTable)

    @work(thread=True)
    def _listen(self) -> None:
        while not get_current_worker().is_cancelled:
            try:
                for status in self._client.live():
                    if get_current_worker().is_cancelled:
                        return
                    self.call_from_thread(self._show, status)
            except ControlError as error:
                self.call_from_thread(self._tell, "#host", str(error))
            time.sleep(RETRY_S)

    def _show(self, status: Status) -> None:
        self._status = status
        self._tell("#host", host_lines(status))
        table, chosen = self._table, self._chosen
        guests = sorted(status.guests, key=_lacking) if self._by_need else list(status.guests)
        row = table.cursor_row
        table.clear()
        for guest in guests:
            table.add_row(*(Text(visible(cell)) for cell in cells(guest)), key=guest.name)
        if chosen in {guest.name for guest in guests}:
            row = table.get_row_index(chosen)
        table.move_cursor(row=min(row, max(0, len(guests) - 1)))

    @property
    def _chosen(self) -> str:
        """The name, and not what is shown of it."""
        table = self._table
        if not table.row_count:
            return ""
        return table.coordinate_to_cell_key(Coordinate(table.cursor_row, 0)).row_key.value or ""

    def _tell(self, where: str, text: str) -> None:
        self.query_one(where, Static).update("\n".join(visible(line) for line in text.split("\n")))

    def action_sort(self) -> None:
        """By name as the daemon has them, or those first that lack most."""
        self._by_need = not self._by_need
        if self._status is not None:
            self._show(self._status)

    def action_explain(self) -> None:
        """Says why, below."""
        if self._chosen:
            self._ask(self._chosen)

    def action_note(self) -> None:
        """What stood below at the start, in place of an explanation."""
        self._tell("#why", self._note)

    def action_help(self) -> None:
        """What the keys do, and the words of the columns."""
        self.push_screen(Words(HELP, {"any key": "closes this"}))

    def action_hold(self) -> None:
        """Of the chosen guest, once it is confirmed."""
        if self._status is not None and self._chosen:
            self._order(self._chosen, is_held=self._is_held(self._chosen))

    def action_hold_all(self) -> None:
        """Of all guests, once it is confirmed."""
        if self._status is not None:
            self._order("", is_held=bool(self._status.host.hold))

    def _is_held(self, name: str) -> bool:
        guests = self._status.guests if self._status else ()
        return next((one.leave_alone for one in guests if one.name == name), "").startswith("on hold")

    def _order(self, name: str, *, is_held: bool) -> None:
        whom = name or "all guests"
        asked = f"Let {whom} go?" if is_held else f"Hold {whom}? Nothing of it moves then, until it is let go, restarts or not."

        def answered(key: str | None) -> None:
            if key == "y":
                self._hold(name, is_held=is_held)

        self.push_screen(Words(asked, {"y": "yes", "any other key": "no"}), answered)

    @work(thread=True, exclusive=True, group="ask")
    def _hold(self, name: str, *, is_held: bool) -> None:
        """Holds a guest, or all when the name is empty; or lets go who is held."""
        try:
            if is_held:
                self._client.ask(RELEASE if name else RELEASE_ALL, name)
            else:
                self._client.ask(HOLD if name else HOLD_ALL, name, body=HoldOrder(why="from top"))
            way = "is let go" if is_held else f"is on hold; to let it go: {typed('release', name)}"
            text = f"{name or 'every guest'} {way}"
        except ControlError as error:
            text = str(error)
        self.call_from_thread(self._tell, "#why", text)

    @work(thread=True, exclusive=True, group="ask")
    def _ask(self, name: str) -> None:
        try:
            text = _explained(self._client.ask(EXPLANATION, name))
        except ControlError as error:
            text = str(error)
        self.call_from_thread(self._tell, "#why", text)


def _explained(told: Explanation) -> str:
    when = datetime.fromtimestamp(told.at).astimezone().strftime("%H:%M:%S")
    return "\n".join((f"{when}: {told.sentence} (e: now, Esc: close)", "", *(f"- {change}" for change in told.changes)))


def host_lines(status: Status) -> str:
    """Two lines on the host."""
    host = status.host
    alarm = "  ALARM" if host.is_alarming else ""
    hold = f"  ON HOLD{host.hold.removeprefix('on hold')}" if host.hold else ""
    return (
        f"host {host.state} ({STATES[host.state]}){alarm}"
        f"  mode {host.mode.value}  policy {host.policy}  {len(status.guests)} guests"
        f"  pressure {host.pressure_share:.0%}{hold}\n"
        f"may take {format_size(host.promised_bytes)} of {format_size(host.guests_bytes)}"
        f"  available {format_size(host.available_bytes)}  reserve {format_size(host.reserve_bytes)}"
    )


def cells(guest: GuestStatus) -> tuple[str, ...]:
    """A guest's row."""
    sizes = (guest.keep_bytes, guest.ceiling_bytes, guest.used_bytes, guest.need_bytes, guest.resident_bytes)
    told = ["-" if size is None else format_size(size) for size in sizes]
    short = f" short {format_size(guest.short_bytes)}" if guest.short_bytes else ""
    why = BOUND if guest.is_bound else f"{guest.reason}{short}"
    return (guest.name, *told, guest.mode.value, why, bar(guest))


def bar(guest: GuestStatus) -> str:
    """What it uses (#), keeps (=) and has (.), by the width of BAR."""
    uses = round(BAR * (guest.used_bytes or 0) / guest.ceiling_bytes)
    keeps = max(uses, round(BAR * (guest.ceiling_bytes if guest.keep_bytes is None else guest.keep_bytes) / guest.ceiling_bytes))
    return "#" * min(uses, BAR) + "=" * (min(keeps, BAR) - min(uses, BAR)) + "." * (BAR - min(keeps, BAR))


def _lacking(guest: GuestStatus) -> tuple[int, int]:
    spare = (guest.keep_bytes or guest.ceiling_bytes) - (guest.need_bytes or 0)
    return -guest.short_bytes, spare
