"""The only code that runs inside the jail."""
