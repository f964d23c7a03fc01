"""Teachers of the modules algebra, algorithmic and arithmetic of Reasoning-Gym, in part."""
