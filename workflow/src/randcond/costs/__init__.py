"""What a student costs: parameters, operations, bytes, time."""
