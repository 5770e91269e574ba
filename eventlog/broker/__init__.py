"""Read-only access to a Kafka cluster: credentials, checks of topics, identities of logs, reads outside groups."""
