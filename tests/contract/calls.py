"""Helpers of the contract tests: calls, and the provider's accounts."""

from __future__ import annotations

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from tests.contract.conftest import Rig

GROUP = "7f3c"


def call_of(
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
    assert not outcome.HasField("absent"), "no situation in these tests proves absence"
    return outcome


async def hold_of(rig: Rig, method: str, operation: d.Operation.ValueType | None = None) -> str:
    outcome = await perform(rig, call_of(operation or rig.begin, method))
    assert outcome.WhichOneof("result") == "authorised"
    return outcome.authorised.hold


async def accounts(rig: Rig) -> tuple[int, int, int, int, int]:
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


def settling_call(rig: Rig, hold: str, minor: int, *, order: str = "a") -> ProviderCall:
    """The call that settles an order at an amount: a capture, or a refund of the rest of a sale."""
    if rig.begin == d.OPERATION_SALE:
        return call_of(d.OPERATION_REFUND, rig.ok, order=order, hold=hold, minor=8900 - minor)
    return call_of(d.OPERATION_CAPTURE, rig.ok, order=order, hold=hold, minor=minor)


def moved(outcome: ProviderOutcome) -> int:
    """Amount that a settling call moved."""
    return outcome.captured.amount_minor or outcome.refunded.amount_minor


def accounts_when(rig: Rig, minor: int | None) -> tuple[int, int, int, int, int]:
    """Expected accounts of an order of 8900 settled at an amount; None: not settled yet."""
    if rig.begin == d.OPERATION_SALE:
        return (8900, 8900, 0, 8900 - (8900 if minor is None else minor), 0)
    return (8900, 0, 0, 0, 8900) if minor is None else (8900, minor, 8900 - minor, 0, 0)
