"""Run files and table files: one per experiment, importable from each other."""
