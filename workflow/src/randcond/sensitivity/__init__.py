"""p(t) measured from the teacher: how far a noised image tells its text from another, at every noise level."""
