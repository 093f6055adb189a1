"""The one training loop, resumable to the bit, and the checkpoint it resumes from."""
