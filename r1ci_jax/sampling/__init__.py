"""The slot sampler: jitted decode chunks, a pause automaton, resume on the same KV cache."""
