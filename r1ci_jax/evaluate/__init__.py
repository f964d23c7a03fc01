"""Accuracy on held-out questions, and tables of it."""
