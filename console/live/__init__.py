"""The live state of open groups: folded in a process of its own, sent to browsers in few frames."""
