"""The benchmarks and soak tests of the jail."""
