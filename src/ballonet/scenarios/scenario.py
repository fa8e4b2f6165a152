"""A scenario: hosts, groups of guests, what they do over time, faults, and what must hold. docs/reference/scenario.md."""

import random
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ballonet.model.settings import SettingsError, Size, decode_toml
from ballonet.model.snapshot import NORMAL_SHARES
from ballonet.model.terms import NORMAL, Terms, written
from ballonet.model.units import MIB
from ballonet.scenarios import files
from ballonet.scenarios.course import Course
from ballonet.scenarios.files import FilePart, FileScript

STANDARD = resources.files("ballonet.scenarios") / "standard"


class Phase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[guests.phases]]`: from `at_s` on the guest needs `used`, going there at `per_s`."""

    at_s: float
    used: Size
    """All that the guest needs, its kernel included."""
    per_s: Size = Size(1 << 30)
    """Bytes a second."""
    cache: Size | None = None
    """What files the guest has read from then on, as far as they fit; None = no more than before. Simulated only."""


class HostPart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[host]`."""

    memory: Size
    """For guests. `--host-share` replaces it by a share of what the guests were promised."""
    own: tuple[Phase, ...] = ()
    """What the host uses of it itself, over time. Simulated only."""
    busy_share: float = 0.0
    """Of its cores: what its own programs take. Simulated only."""
    wobble: Size = Size(0)
    """Its own use goes up and down by this much, every `wobble_s`. Simulated only."""
    wobble_s: float = 10.0
    disk_share: float = 0.0
    """Of the time: how long its disk is waited for by its own programs. Simulated only."""
    huge: Size = Size(0)
    """Set aside for huge pages, besides `memory`. Simulated only."""


class LimitPart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[limits]]`: a limit around some guests, as a cgroup is. Simulated only."""

    name: str
    memory: Size
    guests: tuple[str, ...]
    """Names of groups, or of single guests."""


@written(cache="cache_needed", page_cache="cache")
class Group(Terms, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[guests]]`: `count` guests of one kind, named NAME-0, NAME-1, ..."""

    name: str
    memory: Size
    phases: tuple[Phase, ...]
    count: int = 1
    swap: bool = True
    pace: int = 1000
    """Random touches a second. Not scaled."""
    cold_share: float = 0.0
    """Of what its software uses: it touches that part a hundred times less, and a kernel pages it out first. 0 to 1."""
    page_cache: Size = Size(0)
    """What it reads of its files at the start. `cache_needed` is what its operator says of that."""
    files: tuple[FilePart, ...] = ()
    """What it reads from its disk, again and again or once."""
    is_exact: bool = False
    """The guest has the group's name as it is; for a group of one, as from a trace."""
    jvm: Literal["", "G1", "Serial", "Parallel"] = ""
    """Its memory is the heap of a JVM with this collector: what was garbage stays in use for the kernel, and a collector walks
    all. On real guests a real JVM."""
    app: Literal["", "postgresql", "mariadb", "redis", "nginx"] = ""
    """On real guests it is this application that reads: a real server with a client, and what its client saw is the guest's work.
    The simulator goes by `files`, which say what such a server reads.
    """
    app_rate: Annotated[float, Meta(ge=0)] = 0.0
    """Requests that its client asks for a second. Not scaled."""
    virtio_mem: Size = Size(0)
    """Part of `memory` that is a virtio-mem device, plugged and unplugged in blocks, besides the balloon. Real guests only: in
    the simulator all is moved by balloons.
    """
    swap_known: bool = False
    """It says what an agent does: how much swap it has, and what of its files it read again. Simulated only."""
    starts_s: float | None = None
    """When it starts; None = it runs from the beginning. Simulated only."""
    stops_s: float | None = None
    """When it is shut down. Simulated only."""
    touches_all: bool = False
    """It touches all of its memory as it boots, as Windows does. Simulated only."""
    touch_per_s: Size = Size(0)
    """How fast it touches memory as it boots, bytes a second; 0 = at once. Simulated only."""
    room_s: float | None = None
    """How long before it starts room is asked for it, of all of its memory; None = nobody asks. Simulated only."""
    huge: bool = False
    """Its memory lies in huge pages of the host's pool. Simulated only."""
    cache_worth: float = 0.0
    """Of its touches: those of files. What of them is not in its page cache is read from disk. 0 to 1. Simulated only."""
    fixed_total: bool = False
    """Its MemTotal stays while its balloon moves, as in Windows; on real guests Linux with deflate-on-oom."""
    stagger_s: float = 0.0
    """Each next guest's phases after the first begin this much later."""
    vary_share: float = 0.0
    """Each guest's first `used` is drawn within this share around what is written, by the seed."""
    vary_s: float = 0.0
    """Each later phase is shifted by up to this much, by the seed."""


FaultKind = Literal[
    "hang",
    "vanish",
    "outside-hand",
    "hoard",
    "slow",
    "stuck",
    "cannot-take",
    "hidden-floor",
    "liar",
    "stale",
    "no-driver",
    "second-controller",
    "passthrough",
    "inert",
    "thrash",
    "empty",
    "host-swapped",
    "reboot",
    "restart",
]


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[faults]]`: something goes wrong with one guest."""

    at_s: float
    guest: str = ""
    """Which one; `restart` hits ballonet itself and names none."""
    kind: FaultKind
    """docs/reference/scenario.md; the first four also on real guests."""
    until_s: float | None = None
    """When it is over; None = never."""
    bytes: Size = Size(0)
    """`outside-hand`, `second-controller`: what the guest is set to. `hoard`: page cache that it calls available and no
    balloon can get. `hidden-floor`: below this it does not give. `liar`: what it says it uses. `thrash`: what it says it swaps in
    each second. `host-swapped`: what of it the host has paged out."""
    factor: float = 0.1
    """`slow`: of the balloon's speed."""


class Expect(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[expect]`: what the adaptive policy must hold. Names of the result's summary, and of the unhurt: the guests that
    no fault hits. None = nothing is expected.
    """

    least_throughput_share: float | None = None
    least_throughput_share_worst: float | None = None
    most_swap_in_pages: int | None = None
    most_oom_kills: int | None = None
    most_floor_violations: int | None = None
    most_budget_violations: int | None = None
    most_direction_changes: int | None = None
    most_shortage_s: float | None = None
    most_requests: int | None = None
    most_tick_late_s: float | None = None
    least_alarm_s: float | None = None
    most_unexplained: int | None = None
    most_inflations_at_once: int | None = None
    least_throughput_share_guaranteed: float | None = None
    """Of the worst of the guests that are guaranteed what they use at their peak."""
    least_throughput_share_unhurt: float | None = None
    """Of the worst of them."""
    most_swap_in_pages_unhurt: int | None = None
    """Of all of them."""
    most_alarms: int | None = None
    """How often an alarm began."""
    most_direction_changes_unhurt: int | None = None
    """Of all of them."""


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole scenario. Sizes are those of the real thing; `scaled` makes it small."""

    name: str
    about: str
    duration_s: float
    warmup_s: float = 10.0
    """Before time 0: guests reach their first `used`, nothing counts."""
    lead_s: float = 0.0
    """Before the warm-up: the guests run, and ballonet has not started yet."""
    warm: bool = False
    """The host looks as after days without ballonet: guests keep equal parts of it, and page cache fills what they do not
    use. Else it looks as after a boot: guests keep all that they have, and have never touched most of it."""
    host: HostPart
    guests: tuple[Group, ...]
    faults: tuple[Fault, ...] = ()
    expect: Expect = Expect()
    limits: tuple[LimitPart, ...] = ()
    expect_at_share: dict[str, Expect] = {}
    """By host share, written like "0.6"."""


class GuestScript(Struct, frozen=True, kw_only=True):
    """One guest of a scenario, unfolded: sizes scaled, phases placed."""

    name: str
    memory_bytes: int
    terms: Terms
    """The operator's word on it, resolved."""
    has_swap: bool
    pace: int
    cold_share: float = 0.0
    cache_bytes: int
    jvm: str = ""
    plugged_bytes: int = 0
    fixed_total: bool = False
    swap_known: bool = False
    starts_s: float | None = None
    stops_s: float | None = None
    touches_all: bool = False
    touch_per_s: int = 0
    room_s: float | None = None
    huge: bool = False
    cache_worth: float = 0.0
    files: tuple[FileScript, ...] = ()
    app: str = ""
    app_rate: float = 0.0
    caches: tuple[tuple[float, int], ...] = ()
    """When (s) it reads files, and how much of them it has read then (bytes)."""
    phases: tuple[tuple[float, int, int], ...]
    """When (s), how much (bytes), how fast (bytes a second); the first one at 0."""

    @property
    def shares(self) -> int:
        """Its weight when memory is divided."""
        return self.terms.shares or NORMAL_SHARES

    def course(self) -> Course:
        """What it needs over time."""
        return Course(self.phases)


WARM_SHARE = 0.97
"""Of the host's memory, that warm guests keep together."""
COLD_BYTES = 24 << 20
"""What a warm guest leaves free: a kernel reclaims page cache before it runs out."""


def warm_keeps(guests: tuple[GuestScript, ...], budget_bytes: int) -> dict[str, int]:
    """What each guest of a warm host keeps at the start, in bytes by name: parts by size, and never more than it has."""
    running = [guest for guest in guests if guest.starts_s is None and not guest.huge]
    share = min(1.0, WARM_SHARE * budget_bytes / max(1, sum(guest.memory_bytes for guest in running)))
    return {guest.name: int(share * guest.memory_bytes) for guest in running}


def load(name_or_path: str) -> Scenario:
    """A standard scenario by its name, or one from a file.

    Raises:
        SettingsError: no such scenario (with those that there are), or a file that says something wrong.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        try:
            text = path.read_text()
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}") from error
        return _checked(decode_toml(text, Scenario, str(path)), str(path))
    if name_or_path not in standard_names():
        raise SettingsError(f"no scenario {name_or_path!r}; there are {', '.join(standard_names())}, or give a .toml file")
    text = (STANDARD / f"{name_or_path}.toml").read_text()
    return _checked(decode_toml(text, Scenario, f"{name_or_path}.toml"), f"{name_or_path}.toml")


def standard_names() -> list[str]:
    """The scenarios that come with ballonet."""
    return sorted(path.name.removesuffix(".toml") for path in STANDARD.iterdir() if path.name.endswith(".toml"))


def _checked(scenario: Scenario, origin: str) -> Scenario:
    """What types cannot say. Raises SettingsError."""
    names = {script.name for script in scripts(scenario, scale=1, seed=0)}
    for number, fault in enumerate(scenario.faults):
        if fault.guest not in names and fault.kind != "restart":
            raise SettingsError(f"{origin}: at `faults[{number}].guest`: no guest {fault.guest!r}; there are {sorted(names)}")
    for number, limit in enumerate(scenario.limits):
        if unknown := [name for name in limit.guests if not members(scenario, (name,))]:
            raise SettingsError(f"{origin}: at `limits[{number}].guests`: no guest or group {unknown[0]!r}")
    for number, group in enumerate(scenario.guests):
        _check_group(group, f"{origin}: at `guests[{number}]")
    return scenario


def _check_group(group: Group, place: str) -> None:
    if not group.phases or group.phases[0].at_s != 0:
        raise SettingsError(f"{place}.phases`: the first phase must have at_s = 0")
    if not 0 <= group.cache_worth <= 1:
        raise SettingsError(f"{place}.cache_worth`: {group.cache_worth} is not within 0 and 1")
    if not 0 <= group.cold_share <= 1:
        raise SettingsError(f"{place}.cold_share`: {group.cold_share} is not within 0 and 1")
    if group.room_s is not None and (group.starts_s is None or group.room_s < 0):
        raise SettingsError(f"{place}.room_s`: room is asked for a guest that starts later: give it a starts_s too")
    if bool(group.app) != (group.app_rate > 0):
        raise SettingsError(f"{place}.app_rate`: an application needs a rate of requests, and a rate an application")
    for index, part in enumerate(group.files):
        files.check(part, f"{place}.files[{index}]")
    if any(phase.used > group.memory for phase in group.phases):
        raise SettingsError(f"{place}.phases`: a phase uses more than the guest's memory")


def members(scenario: Scenario, of: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the guests that are meant by names of groups and of single guests."""
    return tuple(
        name
        for group in scenario.guests
        for number in range(group.count)
        if {group.name, name := group.name if group.is_exact else f"{group.name}-{number}"} & set(of)
    )


def scripts(scenario: Scenario, scale: int, seed: int) -> tuple[GuestScript, ...]:
    """Every guest of the scenario with its phases, sizes divided by `scale`. The same seed gives the same scripts."""
    source = random.Random(f"{scenario.name}/{seed}")  # noqa: S311 a seed that reproduces, no secret
    return tuple(_script(group, number, scale, source) for group in scenario.guests for number in range(group.count))


def _script(group: Group, number: int, scale: int, source: random.Random) -> GuestScript:
    return GuestScript(
        name=group.name if group.is_exact else f"{group.name}-{number}",
        memory_bytes=_size(group.memory, scale),
        terms=group.over(NORMAL).scaled(scale),
        has_swap=group.swap,
        pace=group.pace,
        cold_share=group.cold_share,
        cache_bytes=group.page_cache // scale,
        jvm=group.jvm,
        plugged_bytes=_size(group.virtio_mem, scale),
        fixed_total=group.fixed_total,
        swap_known=group.swap_known,
        starts_s=group.starts_s,
        stops_s=group.stops_s,
        touches_all=group.touches_all,
        touch_per_s=group.touch_per_s // scale,
        room_s=group.room_s,
        huge=group.huge,
        cache_worth=group.cache_worth,
        files=tuple(files.file_script(part, scale) for part in group.files),
        app=group.app,
        app_rate=group.app_rate,
        caches=tuple((phase.at_s, phase.cache // scale) for phase in group.phases if phase.cache is not None),
        phases=tuple(_phases(group, number, scale, source)),
    )


def _size(size: int, scale: int) -> int:
    """What a machine can be made of: a real one has whole pages, and says so in MiB."""
    return int(size) if scale == 1 or not size else max(MIB, size // scale // MIB * MIB)


def _phases(group: Group, number: int, scale: int, source: random.Random) -> Iterator[tuple[float, int, int]]:
    vary = 1 + group.vary_share * source.uniform(-1, 1)
    shift_s = number * group.stagger_s + group.vary_s * source.uniform(0, 1)
    resting = group.phases[0].used
    for index, phase in enumerate(group.phases):
        used = phase.used * vary if phase.used == resting else phase.used
        yield phase.at_s + (shift_s if index else 0.0), int(used) // scale, phase.per_s // scale
