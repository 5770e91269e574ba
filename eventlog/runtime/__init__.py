"""The process: exit code 70, failpoints, cancellation, interpreter settings, clock, permissions of files."""
