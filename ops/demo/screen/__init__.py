"""The demo on the screen: the start, the live view, lines of progress and the tables of results."""
