"""Samples to bounded cells, without I/O and without a clock: time comes in as an argument."""
