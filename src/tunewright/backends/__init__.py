"""Implementations of the ports; imported by `app.py` only."""
