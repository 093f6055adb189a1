"""Worlds: what supplies captions, real images and the seen/unseen split."""
