"""Demonstrations that a model writes."""
