"""The slot sampler has jitted decode chunks, a pause automaton, and resumes on its KV cache."""
