"""Teachers of the games outside the paper's 144 tasks."""
