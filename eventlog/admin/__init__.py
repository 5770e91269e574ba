"""Changes of a Kafka cluster: creation of topics, ACLs. For an operator's tools; services can't import it."""
