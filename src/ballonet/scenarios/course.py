"""What a guest needs over time, from phase to phase: value and next change at any time, in O(log phases)."""

from bisect import bisect_right
from collections.abc import Iterable


class Course:
    """Bytes needed over time: at each phase's start a new goal, and the speed to go there with."""

    def __init__(self, phases: Iterable[tuple[float, int, int]]) -> None:
        """Args:
        phases: when (s, rising), how much (bytes), how fast (bytes a second); the first one holds from the start.
        """
        self._starts: list[float] = []
        self._legs: list[tuple[float, int, int]] = []
        for start_s, goal, per_s in phases:
            value = _gone(self._legs[-1], start_s - self._starts[-1]) if self._legs else float(goal)
            self._starts.append(start_s)
            self._legs.append((value, goal, per_s))

    def used_bytes(self, at_s: float) -> float:
        """What is needed at a time."""
        index = max(0, bisect_right(self._starts, at_s) - 1)
        return _gone(self._legs[index], at_s - self._starts[index])

    def rests_until(self, at_s: float) -> float:
        """Until when the need stays as it is; `at_s` itself while it moves."""
        index = max(0, bisect_right(self._starts, at_s) - 1)
        if _gone(self._legs[index], at_s - self._starts[index]) != self._legs[index][1]:
            return at_s
        return self._starts[index + 1] if index + 1 < len(self._starts) else float("inf")

    def peak_bytes(self) -> float:
        """The most that is ever needed."""
        return max(self._legs[-1][1], *(value for value, _, _ in self._legs))


def _gone(leg: tuple[float, int, int], after_s: float) -> float:
    value, goal, per_s = leg
    way = per_s * max(0.0, after_s)
    return min(goal, value + way) if goal > value else max(goal, value - way)
