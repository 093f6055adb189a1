"""D's images as latents, by the teacher or from real images."""
