"""Dataset version to candidate. Starts in `train.py`."""
