"""Teachers of the Reasoning-Gym tasks."""
