"""Resolves, installs and uses the wheels with old and new dependencies, on each Python and for each platform."""
