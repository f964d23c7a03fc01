"""Figures: one file each, drawn from the files of finished runs."""
