"""Repairs by operators: the forms of the actions, their previews, and what is not finished."""
