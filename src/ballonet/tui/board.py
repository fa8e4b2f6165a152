"""The live view of a flight: how far it is, the host, and what each guest keeps, needs, and was last told and why."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ballonet.model.plan import Decision
from ballonet.model.tick import Tick
from ballonet.model.units import format_size
from ballonet.scenarios.scenario import Scenario

START_S = 6.0
"""What starting ten guests and ending them takes besides the scenario's own time."""


class Board:
    """Renders itself anew each time that it is asked (rich calls `__rich__`)."""

    def __init__(self, scenario: Scenario, policies: Sequence[str]) -> None:
        self._scenario = scenario
        self._policies = policies
        self._arm = 0
        self._arm_s = scenario.lead_s + scenario.warmup_s + scenario.duration_s + START_S
        self._stage = ""
        self._at_s = -self._arm_s
        self._tick: Tick | None = None
        self._told: dict[str, tuple[float, Decision]] = {}

    def stage(self, policy: str, text: str) -> None:
        """A new stage of a policy's arm."""
        if self._policies.index(policy) != self._arm or self._tick is None:
            self._arm, self._tick, self._told = self._policies.index(policy), None, {}
            self._at_s = -self._scenario.warmup_s - self._scenario.lead_s - START_S
        self._stage = text

    def tick(self, at_s: float, tick: Tick) -> None:
        """A tick of the daemon at scenario time `at_s`."""
        self._at_s, self._tick = at_s, tick
        self._told |= {one.name: (at_s, one) for one in tick.plan.guests if one.is_command}

    @property
    def left_s(self) -> float:
        """Until the last arm ends."""
        return max(0.0, self._scenario.duration_s - self._at_s) + (len(self._policies) - 1 - self._arm) * self._arm_s

    @property
    def headline(self) -> str:
        """Where the flight is, in one line."""
        arm = f"{self._policies[self._arm]} (arm {self._arm + 1} of {len(self._policies)})"
        return f"{self._scenario.name}, {arm}: {self._stage}; about {self.left_s:.0f} s left"

    def __rich__(self) -> RenderableType:
        """The whole board."""
        whole_s = self._arm_s * len(self._policies)
        bar = ProgressBar(total=whole_s, completed=whole_s - self.left_s, width=60)
        parts: list[RenderableType] = [Text(self.headline), bar]
        if self._tick is not None:
            parts += [Text(_host_line(self._tick)), self._guests(self._tick)]
        return Group(*parts)

    def _guests(self, tick: Tick) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("guest", "keep", "resident", "used", "need"):
            table.add_column(name, justify="left" if name == "guest" else "right", no_wrap=True)
        table.add_column("last told, and why", no_wrap=True, overflow="ellipsis")
        for guest, decision in zip(tick.snapshot.guests, tick.plan.guests, strict=True):
            numbers = decision.numbers
            sizes = (guest.keep_bytes, guest.resident_bytes, numbers.get("used_bytes"), numbers.get("need_bytes"))
            cells = ["-" if size is None else format_size(size) for size in sizes]
            if guest.name in tick.missed:  # on its way
                cells[0] += f" > {format_size((guest.keep_bytes or 0) + tick.missed[guest.name])}"
            at_s, told = self._told.get(guest.name, (self._at_s, decision))
            table.add_row(guest.name, *cells, f"{self._at_s - at_s:3.0f} s ago {told.reason.value}: {told.sentence}")
        return table


def _host_line(tick: Tick) -> str:
    host, plan = tick.snapshot.host, tick.plan
    used, total = format_size(host.total_bytes - host.available_bytes), format_size(host.total_bytes)
    promised, reserve = format_size(plan.promised_bytes), format_size(plan.reserve.bytes)
    return f"host: {used} of {total} in use, {promised} promised, reserve {reserve}"
