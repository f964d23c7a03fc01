"""Teachers of the SymBench tasks."""
