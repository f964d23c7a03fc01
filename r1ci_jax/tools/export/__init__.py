"""What goes with an exported model's weights: its prompt, its defaults and its card."""
