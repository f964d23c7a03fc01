"""Improvement potential of questions, and the stages built from it."""
