"""`ballonet lab run`: arms of one scenario one after the other, and what they showed."""

from collections.abc import Callable, Sequence
from typing import Final

from ballonet.decide.policies import POLICIES
from ballonet.lab.arm import Order, Progress, run_arm
from ballonet.model.limits import Limits
from ballonet.model.settings import SettingsError
from ballonet.model.snapshot import Voice
from ballonet.report.flight import Flight
from ballonet.report.record import Record
from ballonet.scenarios.scenario import GuestScript, Scenario, scripts

FAULTS = frozenset({"hang", "vanish", "outside-hand", "hoard"})
"""What can be done to a real guest."""
VOICES: Final = {
    "": (Voice.BALLOON, ""),
    "agent": (Voice.AGENT, "agent"),
    "agent-nojvm": (Voice.AGENT, "agent nojvm"),
    "qga": (Voice.GUEST_AGENT, "qga"),
}
"""What may follow a policy's name and a plus: how guests are heard in that arm, and what starts that in them."""
APP_LEAST_BYTES: Final = 512 << 20
"""Of a guest with an application: its data are of one size, whatever the scale."""
IDEAL_SHARE = 1.25
"""The host of the `ideal` arm, of what is promised: every guest fully backed, and the reserve on top."""


async def run_arms(
    scenario: Scenario,
    policies: Sequence[str],
    *,
    scale: int,
    host_share: float | None,
    seed: int,
    progress: Callable[[str], Progress],
    limits: Limits | None = None,
) -> Flight:
    """Runs `scenario` under each policy; throughput is measured against the arm `ideal` when it is among them.

    Args:
        scenario: what to run.
        policies: names, in the order to run them; `adaptive+agent` = with ballonet's agent in each guest.
        scale: sizes are divided by it.
        host_share: the host's memory as a share of what guests are promised; None = as the scenario says.
        seed: of the scenario's variations and of the workloads.
        progress: who watches the arm of a policy.
        limits: of every decision; rules can be switched off here. None = the defaults.
    """
    _refuse_simulated(scenario)
    guests = scripts(scenario, scale, seed)
    _refuse_small(scenario, guests)
    promised = sum(script.memory_bytes for script in guests)
    budget = scenario.host.memory // scale if host_share is None else int(promised * host_share)
    records: list[Record] = []
    for policy in policies:
        own_budget = int(promised * IDEAL_SHARE) if policy == "ideal" else budget
        base, voice, starter = arm(policy)
        order = Order(scenario, guests, base, own_budget, scale, seed, limits or Limits(), voice, starter)
        record = await run_arm(order, progress(policy))
        record.policy = policy
        records.append(record)
    ideal = next((record for record in records if record.policy == "ideal"), None)
    return Flight(tuple(records), tuple(record.result(ideal) for record in records))


def arm(name: str) -> tuple[str, Voice, str]:
    """Of an arm's name the policy, the voice, and the command that gives guests that. Raises SettingsError."""
    base, _, voice = name.partition("+")
    if base not in POLICIES:
        raise SettingsError(f"no policy {base!r}; there are {', '.join(POLICIES)}")
    if voice not in VOICES:
        raise SettingsError(f"no voice {voice!r} in {name!r}; there are {', '.join(filter(None, VOICES))}")
    return base, *VOICES[voice]


def _refuse_small(scenario: Scenario, guests: Sequence[GuestScript]) -> None:
    """What the applications of the lab have no room in. Raises SettingsError."""
    small = [script for script in guests if script.app and script.memory_bytes < APP_LEAST_BYTES]
    if small:
        text = f"{small[0].name} would have {small[0].memory_bytes >> 20} MiB, and {small[0].app} needs {APP_LEAST_BYTES >> 20}"
        raise SettingsError(f"{scenario.name}: {text}; take a smaller --scale")


def _refuse_simulated(scenario: Scenario) -> None:
    """What only the simulator can do. Raises SettingsError."""
    wrong = [f"fault {fault.kind!r}" for fault in scenario.faults if fault.kind not in FAULTS]
    host = scenario.host
    wrong += ["`host.own`, `host.wobble` or `host.busy_share`"] if host.own or host.wobble or host.busy_share else []
    if wrong:
        raise SettingsError(f"{scenario.name}: {wrong[0]} cannot be done to real guests; try `ballonet simulate {scenario.name}`")
