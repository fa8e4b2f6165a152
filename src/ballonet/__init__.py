"""ballonet: manages the memory of virtual machines by ballooning, so that no guest notices."""

__version__ = "0.1.0"
