"""A teacher in one file, as the diffusers folder that all other stages read."""
