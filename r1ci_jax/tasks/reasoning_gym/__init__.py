"""Reasoning-Gym tasks; the package runs in a jail."""
