"""Tunewright: a governed model factory. Curate, train, gate, register, deploy, learn."""
