"""The events and provider calls of a decision."""
