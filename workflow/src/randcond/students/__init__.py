"""Distilling a student: its data, its training problem, and the command."""
