"""The process: exit code 70, failpoints, cancellation, interpreter settings, permissions of files."""
