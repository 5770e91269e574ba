"""Files for other programs, generated from the topics and the access policy."""
