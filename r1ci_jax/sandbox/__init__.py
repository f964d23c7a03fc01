"""The interpreter jail: run hostile Python, get a typed result back. Imports no JAX."""
