"""Raw rows to a dataset version. Starts in `curate.py`."""
