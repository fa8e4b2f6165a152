"""Thinking, pure: (state, snapshot, limits, now) -> (state, plan). No I/O and no clock; the same code everywhere."""
