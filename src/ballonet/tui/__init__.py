"""Live views in the terminal: faces that eat frozen values."""
