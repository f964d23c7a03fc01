"""Teachers of matrices: cells and their neighbors, rotations, spirals, chains of operations."""
