"""Supervised fine-tuning and GRPO: losses, state, checkpoints, the two trainers."""
