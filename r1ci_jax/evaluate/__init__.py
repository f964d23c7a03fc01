"""This package measures accuracy on held-out questions and builds tables of it."""
