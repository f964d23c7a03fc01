"""Commands that prepare and check the jail on a machine."""
