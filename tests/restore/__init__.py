"""A rehearsal of docs/operating/backup.md: the log is copied to another cluster, and the services go on there."""
