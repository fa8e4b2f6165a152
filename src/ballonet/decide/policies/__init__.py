"""The policies, one file each, by the name in the configuration. The guard follows each of them."""

from collections.abc import Mapping
from typing import Final

from ballonet.decide.policies import adaptive, esx, hyperv, ideal, mom, proxmox, squeezed, static
from ballonet.decide.policy import Policy

POLICIES: Final[Mapping[str, Policy]] = {
    "adaptive": Policy(adaptive.divide),
    "static": Policy(static.divide),
    "ideal": Policy(ideal.divide),
    "proxmox": Policy(proxmox.divide, proxmox.PERIOD_S, is_peer=True),
    "squeezed": Policy(squeezed.divide, squeezed.PERIOD_S, is_peer=True),
    "mom": Policy(mom.divide, is_peer=True),
    "esx": Policy(esx.divide, is_peer=True),
    "hyperv": Policy(hyperv.divide, hyperv.PERIOD_S, is_peer=True),
}
"""`ideal` is the yardstick of lab and simulator, on a host without a budget."""
