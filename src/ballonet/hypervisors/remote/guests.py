"""Guests that are no processes of this host: nothing of theirs can be asked for here, so the answers are always the same."""

from collections.abc import Mapping

from ballonet.model.finding import Finding
from ballonet.model.plan import Look
from ballonet.model.terms import UNSAID, Terms


class RemoteGuests:
    """The part of the contract that needs a process, an agent or a place for settings on this host."""

    def findings(self) -> list[Finding]:
        """None."""
        return []

    def terms(self, _name: str) -> Terms:
        """There is no place for them."""
        return UNSAID

    def pids(self) -> Mapping[str, int]:
        """None."""
        return {}

    def watch(self, name: str, look: Look) -> None:
        """All are seen alike, as often as there is something new."""

    async def make_ready(self, name: str, free_bytes: int, deadline_s: float) -> None:
        """No agent is heard."""
