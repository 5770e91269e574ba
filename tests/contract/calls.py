"""How the contract's tests make calls and read the provider's books."""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from tests.contract.conftest import Rig

GROUP = "7f3c"


def asks(
    operation: d.Operation.ValueType,
    method: str,
    *,
    order: str = "a",
    attempt: int = 1,
    minor: int = 8900,
    currency: str = "CNY",
    hold: str = "",
) -> ProviderCall:
    return ProviderCall(
        order=order,
        operation=operation,
        attempt=attempt,
        amount_minor=minor,
        currency=currency,
        payment_method=method,
        customer="ann",
        hold=hold,
    )


async def perform(rig: Rig, call: ProviderCall) -> ProviderOutcome:
    outcome = await rig.provider.perform(call, GROUP)
    assert (outcome.order, outcome.operation, outcome.attempt) == (call.order, call.operation, call.attempt)
    assert outcome.origin in {i.OUTCOME_ORIGIN_CALL, i.OUTCOME_ORIGIN_LOOKUP}
    assert not outcome.HasField("absent"), "nothing of what happens here proves absence"
    return outcome


async def hold_of(rig: Rig, method: str, operation: d.Operation.ValueType | None = None) -> str:
    outcome = await perform(rig, asks(operation or rig.asking, method))
    assert outcome.WhichOneof("result") == "authorised"
    return outcome.authorised.hold


async def books(rig: Rig) -> tuple[int, int, int, int, int]:
    """Authorised, captured, released, refunded, open, of the only hold."""
    (entry,) = await rig.statement()
    assert (entry.order, entry.group) == ("a", GROUP)
    return (
        entry.authorised_minor,
        entry.captured_minor,
        entry.released_minor,
        entry.refunded_minor,
        entry.open_minor,
    )


def settles(rig: Rig, hold: str, minor: int, *, order: str = "a") -> ProviderCall:
    """The call that leaves an order charged so much: a capture, or a refund of the rest of a sale."""
    if rig.asking == d.OPERATION_SALE:
        return asks(d.OPERATION_REFUND, rig.ok, order=order, hold=hold, minor=8900 - minor)
    return asks(d.OPERATION_CAPTURE, rig.ok, order=order, hold=hold, minor=minor)


def moved(outcome: ProviderOutcome) -> int:
    """Money that a settling call moved."""
    return outcome.captured.amount_minor or outcome.refunded.amount_minor


def books_when(rig: Rig, minor: int | None) -> tuple[int, int, int, int, int]:
    """What the books must say of an order of 8900 that was charged so much; None: it was only asked for."""
    if rig.asking == d.OPERATION_SALE:
        return (8900, 8900, 0, 8900 - (8900 if minor is None else minor), 0)
    return (8900, 0, 0, 0, 8900) if minor is None else (8900, minor, 8900 - minor, 0, 0)
