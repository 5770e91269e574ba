"""Simulated payment provider: a process of its own, with durable accounts, for tests and demonstrations.

It stands for somebody else's system. It shares only its proto with the services, which reach it over the network; the
import contract "simulators know no service" enforces this.
"""
