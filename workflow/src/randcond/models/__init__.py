"""What one does with a finished student: draw with it, hand it on with a model card, show it, export it."""
