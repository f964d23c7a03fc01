"""Evaluation of one model, trained here or published, with any of the agents."""
