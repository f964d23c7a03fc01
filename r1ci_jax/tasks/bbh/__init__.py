"""BIG-Bench-Hard tasks."""
