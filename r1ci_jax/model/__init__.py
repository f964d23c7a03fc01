"""Qwen-2.5 in Flax NNX and its Hugging Face weights."""
