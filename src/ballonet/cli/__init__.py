"""The command line: a face. It parses, shows and exits; the work is elsewhere."""
