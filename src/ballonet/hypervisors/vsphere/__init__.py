"""VMware: one ESXi host, by itself or through its vCenter (pyVmomi). Tested on govmomi's simulator, never on a real ESXi."""
