"""Attacks from outside on a secured stack: `make attack`."""
