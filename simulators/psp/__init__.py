"""A payment provider to test with: a process of its own, with durable books of its own.

It stands for somebody else's system, so it shares nothing with the services but its proto, and they must never reach
into it other than over the wire.
"""
