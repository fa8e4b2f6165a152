"""Sizes: the one place where text becomes bytes and bytes become text.

Inside ballonet every size is an integer of bytes. What people write (`16GiB`, `16G`, `1.5 GiB`) ends here.
"""

import re
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
PAGE_BYTES: Final = 4096
"""Of a guest's memory, whatever the host's: what balloon drivers count in (virtio 1.2, 5.5.6)."""

_FACTORS: Final = {
    "b": 1,
    **{unit + tail: 1 << shift for unit, shift in (("k", 10), ("m", 20), ("g", 30), ("t", 40)) for tail in ("", "b", "ib")},
}
"""`16G`, `16GB` and `16GiB` mean the same: memory comes in powers of two, and QEMU, libvirt and Proxmox VE read it so."""

_SIZE: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


class SizeError(ValueError):
    """A size that cannot be read. The text says what was found and what would do."""


def parse_size(text: str) -> int:
    """The bytes that `text` means.

    Args:
        text: a number, with a fraction if need be, and a unit: B, K, M, G, T, also as KiB or KB. Only 0 needs none: an
            operator who leaves it out means MiB as often as bytes.

    Returns:
        Bytes, >= 0, rounded to the nearest.

    Raises:
        SizeError: no such form, no such unit, or negative.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise SizeError(f"{text!r} is not a size; write a number and a unit, like 512MiB, 16GiB or 1.5 GiB")
    number, unit = match.groups()
    if not unit and float(number) == 0:
        return 0
    if not unit:
        raise SizeError(f"{text!r} has no unit; write {number}MiB or {number}GiB, whichever is meant")
    factor = _FACTORS.get(unit.lower())
    if factor is None:
        raise SizeError(f"{text!r} has the unknown unit {unit!r}; use B, KiB, MiB, GiB or TiB, like 16GiB")
    return round(float(number) * factor) if "." in number else int(number) * factor


def format_size(size_bytes: float) -> str:
    """Bytes as people read them: `3.8 GiB`, `512 MiB`, `0 B`; three digits, sign kept."""
    for factor, unit in ((1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(size_bytes) >= factor:
            value = size_bytes / factor
            return f"{value:.0f} {unit}" if abs(value) >= 100 or value == int(value) else f"{value:.1f} {unit}"  # noqa: PLR2004 three digits
    return f"{size_bytes:.0f} B"


def span_words(seconds: float) -> str:
    """A span of time as people read it: `45 s`, `30 min`, `26 h`; never less than a second while there is one."""
    if seconds < 120:  # noqa: PLR2004 two minutes
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"  # noqa: PLR2004 two hours
