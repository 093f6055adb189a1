"""D's prompts, the evaluation prompts and the text pool, chosen from the world's texts or written by a model."""
