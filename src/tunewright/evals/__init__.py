"""Candidate to report to verdict. Starts in `evaluate.py`."""
