"""What can go wrong with reading a host: a word of its own, since every command knows it and few read one."""


class SenseError(Exception):
    """The host cannot be read. Nothing can be decided; the text names the file."""
