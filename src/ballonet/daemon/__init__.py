"""The daemon: the only place where sense, decide and act meet."""
