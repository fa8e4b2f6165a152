"""Doing: a plan becomes commands to the hypervisor."""
