"""The language of the port: one flat JSON object a line, written and read by hand: the small Python of a cloud image
(python3-minimal) has no module for it.
"""

from typing import Any, Dict, Optional, Tuple

COMMANDS = ("line_bytes", "ready_bytes")
"""What a host says: below which available memory to speak at once; how much to make free."""
MOST_BYTES = 1 << 50
LONGEST_NUMBER = 20
"""Of digits and blanks: longer ones are no number of bytes, and Python refuses the longest."""


def encoded(message: Dict[str, Any]) -> bytes:
    """A flat object of numbers and plain words as one line of JSON."""
    parts = ('"%s":%s' % (key, '"%s"' % value if isinstance(value, str) else value) for key, value in message.items())
    return ("{%s}\n" % ",".join(parts)).encode()


def commanded(line: bytes) -> Optional[Tuple[str, int]]:
    """The name and the number of {"NAME":N}; None for anything else, as from a host that speaks another version."""
    words = line.strip()
    if not (words.startswith(b"{") and words.endswith(b"}")):
        return None
    name, _, number = words[1:-1].partition(b":")
    for known in COMMANDS:
        if (
            name.strip() == b'"%s"' % known.encode()
            and number.strip().isdigit()
            and len(number) <= LONGEST_NUMBER
            and int(number) <= MOST_BYTES
        ):
            return known, int(number)
    return None
