"""One piece of work for several policies, wherever it is done."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Literal

from ballonet.lab import run as lab
from ballonet.lab.arm import Progress
from ballonet.report.flight import Flight
from ballonet.scenarios.scenario import Scenario
from ballonet.sim import run as sim

Where = Literal["sim", "lab"]
LAB_SCALE: Final = 32
COMPARED: Final = ("adaptive", "static", "proxmox", "squeezed", "mom", "esx", "hyperv")
"""All that divide a real host; `ideal` needs one without a budget."""


def fly(
    where: Where,
    scenario: Scenario,
    policies: Sequence[str],
    host_share: float | None,
    seed: int,
    on_progress: Callable[[str], None] = lambda _text: None,
) -> Flight:
    """Runs every policy on the same work in one run.

    Args:
        where: `sim`, at real KVM speeds and full size; `lab`, on real guests at 1/32.
        scenario: the work.
        policies: names.
        host_share: the host's memory as a share of what guests are promised; None = as the scenario says.
        seed: of the scenario's variations.
        on_progress: told what begins.

    Raises:
        LabUnavailableError, LabError: as of the lab.
        SettingsError: the scenario cannot be run there.
    """
    on_progress(f"{scenario.name}: {', '.join(policies)}")
    if where == "sim":
        return sim.run_arms(scenario, policies, host_share=host_share, seed=seed)

    def progress(policy: str) -> Progress:
        return Progress(lambda stage: on_progress(f"{scenario.name}, {policy}: {stage}"))

    arms = lab.run_arms(scenario, policies, scale=LAB_SCALE, host_share=host_share, seed=seed, progress=progress)
    return asyncio.run(arms)
