"""QEMU/KVM through QMP sockets: adapter.py finds the guests, guest.py looks at one of them."""
