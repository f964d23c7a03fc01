"""Datasets: TFDS builders, Grain pipelines, scripted demonstrations, packing."""
