"""The mesh and the one table that maps array axes to it."""
