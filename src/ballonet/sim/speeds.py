"""How fast things are: on real KVM, and under TCG as in the lab."""

from typing import Final

from msgspec import Struct

from ballonet.model.units import GIB


class Speeds(Struct, frozen=True, kw_only=True):
    """Of one guest. Bytes and pages a second."""

    take_touched_per_s: float
    """The balloon takes memory that the guest has used."""
    take_untouched_per_s: float
    """The balloon takes memory that the guest never touched."""
    return_per_s: float
    """The balloon gives memory back."""
    swap_in_pages_per_s: float
    swap_out_pages_per_s: float
    moving_cost_share: float
    """What a guest's work loses while its balloon moves."""
    busy_share: float = 0.5
    """How much of what it could do at most a paced workload does."""
    answer_s: float = 0.06
    """From asking for statistics to having them."""


KVM: Final = Speeds(
    # HyperAlloc (EuroSys'25), raw data of the 4 KiB balloon on real KVM, and STREAM next to it.
    take_touched_per_s=0.86 * GIB,
    take_untouched_per_s=1.50 * GIB,
    return_per_s=2.11 * GIB,
    moving_cost_share=0.14,
    # A general-purpose cloud volume of 3,000 operations a second: a page a fault; writes go out in clusters of 8 pages.
    swap_in_pages_per_s=3000,
    swap_out_pages_per_s=24000,
)
TCG: Final = Speeds(
    # The lab's guests on QEMU 7.2 under TCG and two cores, as benchmarks/calibrate.py measures them.
    take_touched_per_s=0.4 * GIB,  # page cache, that the guest's kernel drops on the way
    take_untouched_per_s=1.5 * GIB,
    return_per_s=3.3 * GIB,
    moving_cost_share=0.14,
    swap_in_pages_per_s=370,  # a page a request, of 400 requests a second
    swap_out_pages_per_s=10000,  # in clusters; fitted to what guests lost while they paged
)
SPEEDS: Final = {"kvm": KVM, "tcg": TCG}
