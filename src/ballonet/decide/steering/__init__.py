"""What is asked of a hypervisor for each guest: one file for each kind of what an outsider can set."""
