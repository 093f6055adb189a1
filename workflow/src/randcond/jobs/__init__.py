"""What every command shares: its log and errors, files, progress, seeds, provenance, GPUs, and being asked to stop."""
