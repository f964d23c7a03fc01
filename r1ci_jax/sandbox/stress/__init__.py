"""Benchmarks and soak tests of the jail."""
