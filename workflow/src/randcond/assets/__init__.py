"""Weights and data from outside: the list of them, and fetching them."""
