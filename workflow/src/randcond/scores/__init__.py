"""Samples against real images: features, statistics, and the gate that the teacher must pass first."""
