"""The tiny base, the demo recipe and its data generator."""
