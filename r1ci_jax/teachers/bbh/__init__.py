"""Teachers of the BIG-Bench-Hard tasks."""
