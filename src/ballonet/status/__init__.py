"""The words of a tick: what the loop saw and decided, for the API, history, metrics and explanations."""
