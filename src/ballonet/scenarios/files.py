"""`[[guests.files]]`: files that a guest reads again and again, or never again. docs/reference/scenario.md."""

import math
import re
from typing import Annotated, Final

from msgspec import Meta, Struct

from ballonet.model.settings import SettingsError, Size
from ballonet.model.units import PAGE_BYTES

SHAPES: Final = "uniform, zipf, or hot-SHARE like hot-0.1"
_HOT: Final = re.compile(r"hot-(0?\.[0-9]+|1(?:\.0+)?)")
DISK_IOPS: Final = 400.0
"""Requests a second of the disk of a lab guest of 512 MiB."""
DISK_WAIT_S: Final = 0.0008
"""What one of them waits while few come: 0.5 to 1.3 ms were measured."""


class FilePart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[guests.files]]`: a set of files, and how it is read. All sets of a guest lie on one disk."""

    set: Size = Size(0)
    """All that is read again and again. 0 = nothing is: only a stream."""
    reads: Annotated[float, Meta(ge=0)] = 0.0
    """Reads a second, each of a random place, of a guest of 512 MiB; a larger one reads more in proportion. Not scaled."""
    shape: str = "uniform"
    """How often which part is read: `uniform`; `zipf` (exponent 0.99); `hot-0.1`, nine reads of ten on a tenth."""
    read_bytes: Annotated[int, Meta(ge=PAGE_BYTES, le=1 << 20)] = PAGE_BYTES
    """Of each read: 4096; 8192 for PostgreSQL, 16384 for InnoDB."""
    mapped: bool = False
    """It is mapped and not read: what is missed brings its neighbours, and anonymous memory is paged out next to it."""
    stream: Size = Size(0)
    """Bytes a second of other files that are read once: a backup, a scan."""
    iops: Annotated[float, Meta(gt=0)] = DISK_IOPS
    """Requests a second that the disk does, of a guest of 512 MiB; of several sets the least counts."""
    wait: Annotated[float, Meta(gt=0)] = DISK_WAIT_S
    """Seconds that one waits while few come; of several sets the longest counts."""
    at_s: Annotated[float, Meta(ge=0)] = 0.0
    """From when on; at 0 the set has been read in once already."""
    until_s: float | None = None
    """None = to the end."""


class FileScript(Struct, frozen=True, kw_only=True):
    """One set of a guest, its sizes scaled."""

    set_bytes: int
    reads_per_s: float
    shape: str
    read_bytes: int
    is_mapped: bool
    stream_per_s: int
    iops: float
    wait_s: float
    at_s: float
    until_s: float


def file_script(part: FilePart, scale: int) -> FileScript:
    """The same, scaled."""
    return FileScript(
        set_bytes=max(part.read_bytes, part.set // scale) if part.set else 0,
        reads_per_s=part.reads,
        shape=part.shape,
        read_bytes=part.read_bytes,
        is_mapped=part.mapped,
        stream_per_s=part.stream // scale,
        iops=part.iops,
        wait_s=part.wait,
        at_s=part.at_s,
        until_s=math.inf if part.until_s is None else part.until_s,
    )


def hot_share(shape: str) -> float | None:
    """Of a shape with a hot part: how large that is; else None."""
    match = _HOT.fullmatch(shape)
    return float(match[1]) if match and float(match[1]) > 0 else None


def check(part: FilePart, place: str) -> None:
    """What types cannot say. Raises SettingsError that names the place."""
    numbers = {"reads": part.reads, "iops": part.iops, "wait": part.wait, "at_s": part.at_s, "until_s": part.until_s or 0.0}
    if odd := [name for name, number in numbers.items() if not math.isfinite(number)]:
        raise SettingsError(f"{place}.{odd[0]}`: {numbers[odd[0]]:g} is no amount; leave it out, or give a number")
    if part.shape not in {"uniform", "zipf"} and hot_share(part.shape) is None:
        raise SettingsError(f"{place}.shape`: no shape {part.shape!r}; there are {SHAPES}")
    if part.reads and not part.set:
        raise SettingsError(f"{place}.set`: reads of nothing; give the size of what is read again, or a stream")
    if not (part.reads or part.stream):
        raise SettingsError(f"{place}`: nothing is read; give reads a second of a set, or a stream")
    if part.until_s is not None and part.until_s <= part.at_s:
        raise SettingsError(f"{place}.until_s`: {part.until_s:g} is not after at_s, {part.at_s:g}")
