"""Real QEMU guests, made from distribution packages, behind the same scenarios as the simulator."""
