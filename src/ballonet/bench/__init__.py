"""Comparisons: every policy on the same work, in simulator or lab."""
