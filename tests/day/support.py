"""Refunds by the shop's support, and the findings of the provider's balance transactions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import grpc
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from groupbuy.payments.v1.payments_pb2 import RefundPaymentRequest
from groupbuy.payments.v1.payments_pb2_grpc import PaymentServiceStub
from groupbuy.simprovider.v1.simprovider_pb2 import BALANCE_KIND_PAYOUT, BalanceTransaction, StatementEntry

from tests.day.calls import retried

AT_ONCE = 10


async def refund_some(payments: grpc.aio.Channel, kept: Iterable[StatementEntry], count: int) -> int:
    """Support refunds a part of `count` charges. Returns the number of refunds that the rules accepted."""
    stub: Any = PaymentServiceStub(payments)
    entries = sorted(kept, key=lambda one: one.order)[:count]
    free = asyncio.Semaphore(AT_ONCE)

    async def refund(entry: StatementEntry) -> bool:
        request = RefundPaymentRequest(
            name=f"groups/{entry.group}/orders/{entry.order}/payment",
            request_id=str(uuid5(NAMESPACE_OID, entry.hold)),
            amount_minor=max((entry.captured_minor - entry.refunded_minor) // 3, 1),
            currency=entry.currency,
            reason="arrived broken",
        )
        async with free:
            try:
                await retried(stub.RefundPayment, request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise
                # The order was released meanwhile, or a person has refunded it.
                return False
        return True

    return sum(await asyncio.gather(*map(refund, entries)))


def payouts_of(balance: Iterable[BalanceTransaction], holds: Collection[str]) -> dict[tuple[str, str], int]:
    """The shares of holds in payouts, by payout and currency, in minor units."""
    found: Counter[tuple[str, str]] = Counter()
    for one in balance:
        if one.kind != BALANCE_KIND_PAYOUT and one.payout and one.hold in holds:
            found[one.payout, one.currency] += one.amount_minor - one.fee_minor
    return dict(found)


def statement_findings(
    balance: Iterable[BalanceTransaction],
    places: Mapping[str, tuple[str, str]],
    known_fee: Callable[[BalanceTransaction], bool],
) -> list[tuple[str, ProviderOutcome]]:
    """The fees and the shares of payouts in the balance transactions of our holds, each with its payment.

    `places` has group and order of each hold; `known_fee` tells fees that the log has already.
    """
    found = []
    for one in balance:
        if one.kind == BALANCE_KIND_PAYOUT or one.hold not in places:
            continue
        group, order = places[one.hold]
        payment = f"groups/{group}/orders/{order}/payment"
        if one.fee_minor and not known_fee(one):
            outcome = ProviderOutcome()
            outcome.fee.hold = one.hold
            outcome.fee.reference = one.transaction
            outcome.fee.amount_minor = one.fee_minor
            outcome.fee.currency = one.currency
            outcome.fee.kind = "processing"
            found.append((payment, outcome))
        net = one.amount_minor - one.fee_minor
        if one.payout and net:
            outcome = ProviderOutcome()
            outcome.paid_out.hold = one.hold
            outcome.paid_out.reference = one.transaction
            outcome.paid_out.amount_minor = net
            outcome.paid_out.currency = one.currency
            outcome.paid_out.payout = one.payout
            found.append((payment, outcome))
    return found
