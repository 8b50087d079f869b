"""Pure kernels that several stages need: no I/O, no torch."""
