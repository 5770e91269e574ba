"""The pages of the listener for operators."""
