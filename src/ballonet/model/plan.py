"""What is to be done, and why: one decision per guest, with what it is asked for, a reason code and a sentence with its numbers.

Also the file format `ballonet.plan/1`.
"""

import enum
from typing import Any, Final, TypeAlias

from msgspec import Struct, structs

from ballonet.model.knobs import Bounds, Entitlement, Steering
from ballonet.model.room import RoomPlan
from ballonet.model.units import format_size

PLAN_SCHEMA: Final = "ballonet.plan/1"


class Reason(enum.Enum):
    """Why a guest keeps what it keeps. The value is the code in logs, files and metrics."""

    CALM = "calm"
    NEEDS = "needs"
    DISTRESS = "distress"
    SPARE = "spare"
    FEEDBACK = "feedback"
    DONOR = "donor"
    ROOM = "room"
    SHORT = "short"
    PART = "part"
    LEAK = "leak"
    RECALL = "recall"
    DEFLATE = "deflate"
    ENTITLED = "entitled"
    BOUNDED = "bounded"
    STATIC = "static"
    PEER = "peer"
    FLOOR = "floor"
    BUDGET = "budget"
    STALE = "stale"
    STUCK = "stuck"
    PARKED = "parked"
    ALONE = "alone"
    INERT = "inert"
    UNKNOWN = "unknown"
    OBSERVED = "observed"

    @property
    def is_for_command(self) -> bool:
        """Whether it says why something is sent."""
        return self not in {Reason.UNKNOWN, Reason.ALONE, Reason.OBSERVED, Reason.STALE}


SENTENCES: Final = {
    Reason.CALM: "keeps {keep_bytes}: it needs {need_bytes}, and no other guest needs the rest",
    Reason.NEEDS: "gets {keep_bytes}: it uses {used_bytes}, grows by {growth_bytes}/s, so it needs {need_bytes}",
    Reason.DISTRESS: "gets {keep_bytes} at once: it pages ({swap_in_bytes}/s swapped in), so it needs {need_bytes}",
    Reason.FEEDBACK: "gets back to {keep_bytes} and is not asked to give for {wait_s}: it paged out {swap_out_bytes}/s while its"
    " balloon grew",
    Reason.SPARE: "gets {keep_bytes}: it needs {need_bytes} and the host has memory to spare",
    Reason.DONOR: "gives memory and keeps {keep_bytes}: it needs {need_bytes}, and the host lacks {deficit_bytes} of its reserve",
    Reason.ROOM: "gives memory and keeps {keep_bytes}: it needs {need_bytes}, and {deficit_bytes} are still to be gathered so"
    " that {names} can start",
    Reason.SHORT: "keeps {keep_bytes} of the {need_bytes} that it needs: what {within} has is divided by guarantees and shares",
    Reason.PART: "gives memory and keeps {keep_bytes}, its part of {within} by guarantees and shares: other guests lack their"
    " parts, and it needs {need_bytes}",
    Reason.LEAK: "keeps {keep_bytes}, its part of {within}: it grows without end (by {risen_bytes} in {rising_s}, to"
    " {demand_bytes})",
    Reason.RECALL: "stays at {keep_bytes}: the host no longer lacks the {recalled_bytes} that this guest was asked for last",
    Reason.DEFLATE: "gets {keep_bytes} of its {goal_bytes} back, as much as the host can spare: {why}",
    Reason.ENTITLED: "{has} {reservation_bytes} reserved and {shares} shares{limited}: it needs {need_now_bytes} not to page,"
    " {need_bytes} with its margin{pages}; its hypervisor's own loop moves the rest",
    Reason.BOUNDED: "{has} {minimum_bytes} to {maximum_bytes}, a buffer of {buffer_percent} % and priority {priority}: it uses"
    " {used_bytes} and needs {need_bytes}{pages}; its hypervisor's own loop moves it between those",
    Reason.STATIC: "keeps {keep_bytes}, an equal part of the host",
    Reason.PEER: "keeps {keep_bytes}, as {peer} decides: {what} {goal_bytes}",
    Reason.FLOOR: "keeps {keep_bytes}: never below its floor of {floor_bytes} (asked: {wish_bytes})",
    Reason.BUDGET: "gets {keep_bytes} now, and {wish_bytes} when other guests have given: {within} can promise only"
    " {slack_bytes} more",
    Reason.STALE: "keeps {keep_bytes}: it has not reported its memory for {stats_age_s}; {why}",
    Reason.STUCK: "is set back to {keep_bytes}: asked for {asked_bytes}, it has not moved for {still_s}",
    Reason.PARKED: "keeps {keep_bytes}: it did not move when asked; asked again in {wait_s}",
    Reason.ALONE: "is left alone: {why}",
    Reason.INERT: "is left alone and gets back to {goal_bytes}: its balloon took memory, and the host did not get it"
    " (it occupies {occupied_bytes})",
    Reason.UNKNOWN: "is left alone, because what its balloon keeps is not known: {why}",
    Reason.OBSERVED: "is only watched (mode {mode})",
}


class Keep(Struct, frozen=True, gc=False, tag="keep"):
    """What the balloon of a guest is to leave it."""

    bytes: int


Ask: TypeAlias = Keep | Entitlement | Bounds
"""What is asked of a hypervisor for one guest."""


class ReserveReason(enum.Enum):
    """Why the reserve is as large as it is (R3)."""

    SCALE = "scale"
    SPIKES = "spikes"
    BOUNDED = "bounded"
    OPERATOR = "operator"
    BEYOND = "beyond"
    OFF = "off"


_SPIKE: Final = "guests together grew by {growth_bytes}/s recently, and donors need {horizon_s} to give"
RESERVE_SENTENCES: Final = {
    ReserveReason.SCALE: "the host keeps {bytes} free, by its size; recent spikes of its guests took {spike_bytes}",
    ReserveReason.SPIKES: "the host keeps {bytes} free: " + _SPIKE + "; by its size alone it would keep {scale_bytes}",
    ReserveReason.BOUNDED: "the host keeps {bytes} free, the most that ballonet keeps: " + _SPIKE + ", which takes {spike_bytes}",
    ReserveReason.OPERATOR: "the host keeps {bytes} free, as the operator has set",
    ReserveReason.BEYOND: "the operator has set that {bytes} stay free, and no more than {reach_bytes} can, because guests need"
    " the rest",
    ReserveReason.OFF: "the host keeps nothing free (R3 is off)",
}


class Reserve(Struct, frozen=True):
    """Host memory that is to stay unpromised, and why."""

    bytes: int
    reason: ReserveReason
    numbers: dict[str, Any]
    """What decided, as in a decision."""

    @property
    def sentence(self) -> str:
        """The reason in words, with its numbers."""
        return _say(RESERVE_SENTENCES[self.reason], self.numbers | {"bytes": self.bytes})


NO_RESERVE: Final = Reserve(0, ReserveReason.OFF, {})


class Decision(Struct, frozen=True):
    """What one guest shall keep, what is asked for that, and why."""

    name: str
    keep_bytes: int | None
    """What it shall keep; equal to what it keeps now when it is left alone, or when no balloon is sized from outside. None =
    unknown and left alone."""
    reason: Reason
    numbers: dict[str, Any]
    """What decided: the values that the reason's sentence names, sizes in bytes, times in seconds."""
    ask: Ask | None = None
    """What is to be sent to the hypervisor; None = nothing."""
    used_bytes: int | None = None
    """What it uses, page cache that can be freed not counted; None = it does not say."""
    need_bytes: int | None = None
    """What it should have by its recent use, with its full margin (R2); None = not known, or a peer decides."""
    need_now_bytes: int | None = None
    """The least with which it does not page in the next moments."""
    floor_bytes: int = 0
    """Never below (R6)."""

    steering: Steering = Steering.TARGET
    """Of which kind all that is asked for this guest is."""

    @property
    def is_command(self) -> bool:
        """Whether something is to be sent to the hypervisor."""
        return self.ask is not None

    @property
    def asked(self) -> dict[str, int | str | None]:
        """What is to be sent, by names that say the unit; empty = nothing."""
        if self.ask is None:
            return {}
        return {"keep_bytes": self.ask.bytes} if isinstance(self.ask, Keep) else structs.asdict(self.ask)

    @property
    def sentence(self) -> str:
        """The reason in words, with its numbers. Made when it is read: a thousand guests are decided in 10 ms."""
        return _say(SENTENCES[self.reason], {"within": THE_HOST} | self.numbers | {"keep_bytes": self.keep_bytes})


THE_HOST: Final = "the host"


def limit_of(name: str) -> str:
    """How a sentence names a limit around some guests; without one it is THE_HOST that is meant."""
    return f"the limit of {name}"


def _say(template: str, facts: dict[str, Any]) -> str:
    return template.format_map({key: _text(key, value) for key, value in facts.items()})


def _text(key: str, value: Any) -> str:
    if value is None:
        return "an unknown time" if key.endswith("_s") else "an unknown amount"
    if key.endswith("bytes"):
        return format_size(value)
    return f"{value:.1f} s" if key.endswith("_s") else str(value)


class Shortage(Struct, frozen=True, gc=False):
    """A guest that does not get what it needs, and by how much."""

    name: str
    bytes: int
    within: str = ""
    """The limit around some guests that is too small for them; "" = the host is."""


class Look(Struct, frozen=True, gc=False):
    """How closely to watch one guest until the next plan."""

    every_s: float
    wake_below_bytes: int
    """Wake the loop at once when the guest's available memory falls under this line."""


class PlanBudget(Struct, frozen=True, gc=False):
    """A limit around some guests, as far as a plan is bound by it."""

    name: str
    memory_bytes: int
    """For those guests: what they occupy of it and what is left."""
    guests: tuple[str, ...]
    promised_bytes: int = 0
    """What they may still take without asking again."""


class Emergency(Struct, frozen=True, kw_only=True):
    """What the host itself is to do now, beyond the balloon (R14)."""

    ksm_pages: int | None = None
    """Pages that KSM looks at a turn; 0 = it stops, and what is merged stays so; None = leave it."""
    reclaim: dict[str, int] = {}
    """Of each guest, bytes for the host to page out."""


NO_EMERGENCY: Final = Emergency()


class Plan(Struct, frozen=True, kw_only=True):
    """One tick's outcome. Guests are in the order of the snapshot."""

    policy: str
    guests: tuple[Decision, ...]
    short: tuple[Shortage, ...] = ()
    looks: dict[str, Look] = {}
    next_s: float = 1.0
    """When to decide again, if nothing happens before."""
    memory_bytes: int = 0
    """Memory for guests: what they hold plus what the host has available."""
    reserve: Reserve = NO_RESERVE
    """What is to stay unpromised of it."""
    host_state: str = "high"
    """high, clear, soft, hard or low (R14). In the last two nobody should start a VM here."""
    is_alarming: bool = False
    """An operator should know now: the host is about to run out of memory."""
    promised_bytes: int = 0
    """What guests may still take without asking again, the commands of this plan included. Guests that cannot be moved count at
    what they occupy and an expected rise."""
    fixed: dict[str, int] = {}
    """What those count at, in bytes by name (R13)."""
    rooms: tuple[RoomPlan, ...] = ()
    """What became of the rooms for VMs that are about to start (R18)."""
    budgets: tuple[PlanBudget, ...] = ()
    """Limits around some guests that bind besides the host's memory."""
    emergency: Emergency = NO_EMERGENCY

    def wire(self) -> dict[str, Any]:
        """The plan as `ballonet.plan/1`."""
        guests = [
            {
                "name": d.name,
                "keep_bytes": d.keep_bytes,
                "steering": d.steering.value,
                "asked": d.asked,
                "reason": d.reason.value,
                "sentence": d.sentence,
            }
            for d in self.guests
        ]
        short = [{"name": shortage.name, "bytes": shortage.bytes, "within": shortage.within} for shortage in self.short]
        host: dict[str, Any] = {"state": self.host_state, "reserve_bytes": self.reserve.bytes, "sentence": self.reserve.sentence}
        host["emergency"] = structs.asdict(self.emergency)
        return {"schema": PLAN_SCHEMA, "policy": self.policy, "guests": guests, "short": short, "host": host}
