"""All hypervisors that ballonet can steer, by the names of their sections in the configuration."""

from typing import Final

from ballonet.hypervisors.hyperv.config import HypervConfig
from ballonet.hypervisors.libvirt.config import LibvirtConfig
from ballonet.hypervisors.proxmox.config import ProxmoxConfig
from ballonet.hypervisors.qemu.config import QemuConfig
from ballonet.hypervisors.section import Section
from ballonet.hypervisors.vsphere.config import VsphereConfig

SECTIONS: Final[tuple[type[Section], ...]] = (QemuConfig, LibvirtConfig, ProxmoxConfig, VsphereConfig, HypervConfig)
