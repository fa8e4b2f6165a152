"""What runs inside a guest: the agent, one file to copy, with nothing but Python 3.9's standard library."""
