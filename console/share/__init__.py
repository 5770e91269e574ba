"""The public page that a share link opens."""
