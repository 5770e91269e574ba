"""Folds the logs incrementally: the state of each group on disk, and the sums over all groups."""
