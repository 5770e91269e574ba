"""Refunds that the provider refused, and that succeed after all.

All are reports of version 2 of the payment rules. The service's state is only read.
"""

from __future__ import annotations

from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, ProviderOutcome

from services.payments.domain.output.provider_calls import idempotency_key
from tests.simulation.world.provider import Account
from tests.simulation.world.world import World


def is_booked(world: World, account: Account) -> bool:
    """Whether an account is one of a group under version 2, whose money the log knows."""
    case = world.auditor.case(account.group)
    if case is None or case.group_payments.rules_version < 2 or (account.group, account.order) in world.auditor.forged:
        return False
    payment = case.group_payments.payments.get(account.order)
    hold = payment.holds.get(account.reference) if payment is not None else None
    return hold is not None and (hold.captured, hold.refunded) == (account.captured, account.refunded)


def report_late_success(world: World, call: ProviderCall, group: str) -> None:
    """Reports the success of a refund that was refused, if it can be made true and the refusal is in the log.

    A notification of the refusal may come later still.
    """
    known = world.provider.results[idempotency_key(call)]
    account = world.provider.accounts[call.hold]
    payments = world.payments_of(group)
    record = payments.orders.get(call.order) if payments is not None else None
    refusal_known = record is not None and call.attempt in (record.abandoned or {})
    fits = known.HasField("declined") and refusal_known and call.amount_minor <= account.refundable
    if not fits or not is_booked(world, account):
        return
    world.coverage.count("fault", "refused refund succeeded")
    known.refunded.hold = account.reference
    known.refunded.amount_minor = call.amount_minor
    account.refunded += call.amount_minor
    news = ProviderOutcome()
    news.CopyFrom(known)
    news.origin = OUTCOME_ORIGIN_NOTIFICATION
    world.report(group, news)
