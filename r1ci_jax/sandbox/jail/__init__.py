"""The modules whose code runs inside the jail; no other code of this package does."""
