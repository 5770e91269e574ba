"""The client package for other services: typed, sync and async, with retries by the service config."""
