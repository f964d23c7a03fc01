"""Six small tasks that a model of one million weights can learn on a CPU."""
