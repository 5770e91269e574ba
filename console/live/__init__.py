"""What the console knows about open groups: folded in a process of its own, sent to browsers in few frames."""
