"""Guests that are processes of this host: how they are watched, heard and left alone, whatever asks their hypervisor."""
