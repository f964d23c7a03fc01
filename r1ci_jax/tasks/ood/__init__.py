"""Questions unlike those of the 144 tasks, for evaluation only."""
