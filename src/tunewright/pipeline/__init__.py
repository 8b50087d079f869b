"""The stages wired in order. Read `flow.py` first."""
