"""Scenarios: what happens to a host and its guests, and what must hold. Shared by lab and simulator."""
