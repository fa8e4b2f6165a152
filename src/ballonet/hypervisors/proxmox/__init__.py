"""The VMs of a Proxmox VE node."""
