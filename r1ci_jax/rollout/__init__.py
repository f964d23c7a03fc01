"""Trajectories: an agent drives the sampler, pauses on code, and the sandbox answers."""
