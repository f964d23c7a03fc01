"""Accuracy on held-out questions and the tables made of it."""
