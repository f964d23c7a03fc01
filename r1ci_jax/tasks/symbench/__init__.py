"""The 33 symbolic tasks of SymBench."""
