"""The mesh, and the table that maps array axes to it."""
