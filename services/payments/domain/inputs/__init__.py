"""What each kind of input leads to."""
