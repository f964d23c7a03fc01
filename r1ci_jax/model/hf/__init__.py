"""This package reads and writes Hugging Face checkpoints."""
