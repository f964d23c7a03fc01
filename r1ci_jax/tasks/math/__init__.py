"""Tasks from published mathematics sets, and the comparison of mathematical answers."""
