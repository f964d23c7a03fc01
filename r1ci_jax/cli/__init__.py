"""The r1ci command has experiment loading and one module per command group."""
