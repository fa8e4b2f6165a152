"""What can go wrong when a run is shown."""


class ReportError(Exception):
    """The report cannot be made; the text says what to install or change. The results themselves are not touched."""
