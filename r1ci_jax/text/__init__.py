"""Text contracts: tokenizers, the ChatML prompt, the code and answer protocol."""
