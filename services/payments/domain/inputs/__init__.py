"""The rules for each kind of input."""
