"""Teachers of the SymBench tasks that move things on boards and in stacks."""
