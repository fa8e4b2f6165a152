"""The policies, one file each, by the name in the configuration. The guard follows each of them."""

from collections.abc import Mapping
from typing import Final

from ballonet.decide.policies import adaptive, esx, hyperv, ideal, mom, proxmox, squeezed, static
from ballonet.decide.policy import Policy, peer

POLICIES: Final[Mapping[str, Policy]] = {
    "adaptive": Policy(adaptive.divide, keeps_rooms=True),
    "static": Policy(static.divide),
    "ideal": Policy(ideal.divide),
    "proxmox": peer(proxmox.divide, proxmox.PERIOD_S),
    "squeezed": peer(squeezed.divide, squeezed.PERIOD_S),
    "mom": peer(mom.divide),
    "esx": peer(esx.divide),
    "hyperv": peer(hyperv.divide, hyperv.PERIOD_S),
}
"""`ideal` is the yardstick of lab and simulator, on a host without a budget."""
