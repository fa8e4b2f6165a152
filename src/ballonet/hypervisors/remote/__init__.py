"""Guests of another machine, whose hypervisor has a loop of its own: what adapters of such hosts share."""
