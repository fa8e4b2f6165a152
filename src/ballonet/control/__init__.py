"""How faces talk to the daemon: messages, what an operator orders, an API and its client."""
