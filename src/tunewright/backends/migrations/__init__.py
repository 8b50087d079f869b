"""Numbered schema migrations of the registry database."""
