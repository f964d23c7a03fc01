"""Memory and time of a run on a TPU topology, compiled ahead of time on CPU."""
