"""Verdict to model version. Starts in `register.py`."""
