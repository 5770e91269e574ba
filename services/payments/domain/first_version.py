"""The inputs that a build can read which knows version 1 of the rules alone.

While such a process runs, the setting RULES_VERSION of the newer ones is 1, and they append no other input: it would
stop the partition in the older process.
"""

from __future__ import annotations

from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from services.payments.domain.inputs.provider_news import NEWS


def is_news(outcome: ProviderOutcome) -> bool:
    """Whether an outcome is news of the provider's own doing, which such a build does not know."""
    return outcome.WhichOneof("result") in NEWS


def readable(outcome: ProviderOutcome) -> ProviderOutcome:
    """The outcome of a call as such a build knows it: a call that is not possible now is made again later."""
    if outcome.WhichOneof("result") != "not_possible":
        return outcome
    made = ProviderOutcome()
    made.CopyFrom(outcome)
    made.retry_later.error = outcome.not_possible.error
    made.retry_later.after_ms = outcome.not_possible.after_ms
    return made
