"""Trace and Feedback to Examples: attach, review, harvest."""
