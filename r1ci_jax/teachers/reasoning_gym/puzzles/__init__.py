"""Teachers of the puzzles of Reasoning-Gym: searches, tables, statements, machines."""
