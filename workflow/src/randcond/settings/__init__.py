"""The configuration: its schema and defaults, the files of runs and of claims, and what the rules compute from them."""
