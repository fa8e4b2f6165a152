"""What binds every decision on this host, whatever the policy."""

from typing import Final

from msgspec import Struct

RULES: Final = tuple(f"R{number}" for number in range(1, 19))
"""The rules of docs/reference/rules.md. Each is a safety that a scenario can switch off, to prove that it is needed."""


class Limits(Struct, frozen=True, kw_only=True):
    """Host-wide settings of a decision. Those of one guest are part of its snapshot."""

    reserve_bytes: int | None = None
    """Host memory to keep free. None = sized by what this host has shown (R3)."""
    interval_s: float = 1.0
    """The loop's period when nothing happens; statistics older than three of them are old (R8)."""
    may_limit: bool = False
    """Whether guests may be given limits, where they are steered by entitlement (ESXi)."""
    may_ksm: bool = False
    may_reclaim: bool = False
    """Which steps beyond the balloon the operator allows (R14)."""
    without: frozenset[str] = frozenset()
    """Rules that are switched off. For proofs only: never set in production."""

    def has(self, rule: str) -> bool:
        """Whether `rule` (`R1` to `R18`) is in force."""
        return rule not in self.without
