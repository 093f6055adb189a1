"""The paper's idea: p(t) and the swap (conditioning), the losses, and the students."""
