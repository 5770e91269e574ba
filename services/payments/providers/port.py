"""What a payment provider's adapter is: the one protocol that the payments service knows, and its words.

An adapter reports; it never decides what an outcome means, and it must never report money as gone, held or absent
unless the provider said so. Adapters raise the errors below to each other's shared parts (see resolve.py), never to
their callers.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from groupbuy.payments.v1.decisions_pb2 import Operation, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OutcomeOrigin, ProviderOutcome


class Provider(Protocol):
    """An adapter to one payment provider. Used on one event loop."""

    @property
    def name(self) -> str:
        """Short name, for logs."""
        ...

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call, or learns what came of it when it was made before; ends within seconds.

        Never raises for trouble with the network or the provider. An unknown result is looked up by the call's key;
        where the provider honours keys, the same call is also sent again. What stays unknown is RETRY_LATER. ABSENT is
        reported only where the provider proves that it never saw the call and that the call can't arrive any more: a
        look-up that finds nothing proves neither, as the call may still be under way. Raises ValueError for a call that
        makes no sense, which is a defect of ours.
        """
        ...

    @property
    def well(self) -> bool:
        """Whether it is asked at present; False while it is left alone after too many failures."""
        ...

    async def close(self) -> None:
        """Ends its connections. Calls under way are cut off."""
        ...


@runtime_checkable
class ExpiringIdempotency(Protocol):
    """A provider that forgets keys after a while, and so has to be asked before an old call is sent again."""

    async def perform_again(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """The same as Provider.perform, for a call that may have been sent long ago: looks it up before it sends it."""
        ...


class ProviderError(Exception):
    """Base of what can go wrong between an adapter and its provider."""

    def __init__(self, message: str, *, after_ms: int = 0) -> None:
        """`after_ms`: the provider asked to be left alone for so long, in milliseconds."""
        super().__init__(message)
        self.after_ms = after_ms


class ResultUnknown(ProviderError):
    """The call may or may not have taken effect. Look its key up, or send the same call again."""


class KeyTaken(ProviderError):
    """The provider has another payload under this key. What it did under the key is what counts: look it up."""


class DoneBefore(ProviderError):
    """The provider says that this call was made before, as one that is repeated is. Look it up."""


class NotPossibleNow(ProviderError):
    """The provider did not take the call, and won't within seconds (bad credentials, …). Ask again later."""


class NotYet(NotPossibleNow):
    """The provider is well, but has no final answer to this call yet. Ask again later."""


def idempotency_key(call: ProviderCall) -> str:
    """The name of a call: `{order}:{operation}:{attempt}`. Raises ValueError without an operation."""
    if call.operation == Operation.OPERATION_UNSPECIFIED:
        raise ValueError(f"order {call.order}: a call without an operation")
    operation = Operation.Name(call.operation).removeprefix("OPERATION_").lower()
    return f"{call.order}:{operation}:{call.attempt}"


def outcome_of(call: ProviderCall, origin: OutcomeOrigin.ValueType) -> ProviderOutcome:
    """An outcome of this call, without its result yet."""
    return ProviderOutcome(order=call.order, operation=call.operation, attempt=call.attempt, origin=origin)
