"""Writing records: batched output of processors, and the publisher of API calls."""
