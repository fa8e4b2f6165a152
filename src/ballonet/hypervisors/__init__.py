"""The door to the hypervisors: the contract, and one adapter each."""
