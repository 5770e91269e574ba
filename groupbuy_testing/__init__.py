"""Integration tests against group buying, for this and other repositories: a pytest plugin and a running system."""
