"""Scripts that run in an environment with the wheels, and use nothing else of this repository."""
