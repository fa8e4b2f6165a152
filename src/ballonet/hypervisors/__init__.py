"""The door to the hypervisors: the contract, and one file per adapter."""
