"""The board of a running host: what each guest keeps and needs, and why the last decision."""

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ballonet.model.plan import Plan
from ballonet.model.snapshot import Snapshot
from ballonet.model.units import format_size


def board(title: str, at_s: float, until_s: float, snapshot: Snapshot, plan: Plan) -> RenderableType:
    """A picture of one tick, with how far a run of `until_s` seconds is."""
    host = snapshot.host
    used = host.total_bytes - host.available_bytes
    left_s = max(0.0, until_s - at_s)
    head = f"{title}: host {format_size(used)} of {format_size(host.total_bytes)} in use, "
    head += f"promised {format_size(plan.promised_bytes)}, reserve {format_size(plan.reserve_bytes)}; {left_s:.0f} s left"
    table = Table(box=None, pad_edge=False)
    for name in ("guest", "keeps", "holds", "uses", "needs"):
        table.add_column(name, justify="left" if name == "guest" else "right", no_wrap=True)
    table.add_column("why", no_wrap=True, overflow="ellipsis")
    for guest, decision in zip(snapshot.guests, plan.guests, strict=True):
        numbers = decision.numbers
        sizes = (guest.keep_bytes, guest.resident_bytes, numbers.get("used_bytes"), numbers.get("need_bytes"))
        cells = ["-" if size is None else format_size(size) for size in sizes]
        table.add_row(guest.name, *cells, f"{decision.reason.value}: {decision.sentence}")
    return Group(Text(head), ProgressBar(total=until_s, completed=min(at_s, until_s), width=60), table)
