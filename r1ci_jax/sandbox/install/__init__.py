"""Preparing and checking the jail on a machine."""
