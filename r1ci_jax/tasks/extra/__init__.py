"""Games of this project outside the paper's 144 tasks."""
