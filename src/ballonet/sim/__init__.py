"""A simulated host and a bestiary of guests behind the contract, on a clock that jumps; the production loop on top."""
