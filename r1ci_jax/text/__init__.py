"""This package has tokenizers, the ChatML prompt, and the code and answer protocol."""
