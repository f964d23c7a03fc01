"""The r1ci command: experiment loading and one module per command group."""
