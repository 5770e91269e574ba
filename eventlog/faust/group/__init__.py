"""Membership of a consumer group: assignment, fencing and the lease."""
