"""The benchmarks are compared with these scripts, which run in their own environments."""
