"""What the paper's world costs on GPUs, and whether it fits, without its weights."""
