"""Evaluation images, drawn or real, as zips of files."""
