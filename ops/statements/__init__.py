"""Statements of payment providers, read as a stream of movements: Stripe's and WeChat Pay's, and the simulator's."""
