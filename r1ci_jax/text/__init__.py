"""Tokenizers, the ChatML prompt, and the code and answer protocol."""
