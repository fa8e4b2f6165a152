"""What can go wrong with the lab itself, as opposed to what it measures."""


class LabError(Exception):
    """The lab cannot do what it was asked. The text names the reason and the remedy."""


class LabUnavailableError(LabError):
    """This machine cannot run the lab at all: no Linux, no QEMU, no packages. Nothing was started."""
