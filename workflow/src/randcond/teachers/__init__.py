"""What distillation knows of a teacher, and how images are drawn from a pipeline."""
