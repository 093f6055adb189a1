"""Making a finished student faster: its consistency distillation, as a training problem and as a command."""
