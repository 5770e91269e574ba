"""State of the payments of a group, its status, and what of it may need an operator."""
