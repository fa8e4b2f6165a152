"""Reading: the world becomes one frozen snapshot per tick."""
