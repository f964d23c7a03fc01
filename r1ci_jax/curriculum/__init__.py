"""This package has the improvement potential of questions and the stages built from it."""
