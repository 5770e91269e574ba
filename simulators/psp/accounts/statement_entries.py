"""Statement entries: each hold by the reference and in the units that its merchant knows, by API.

A merchant of Stripe's knows payment intents, and one of WeChat Pay's its own trade numbers. Amounts of Stripe's are
converted to minor units of ISO 4217.
"""

from __future__ import annotations

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.balance import Booking
from simulators.psp.accounts.details import by_hand, named_key
from simulators.psp.accounts.holds import Hold
from simulators.psp.accounts.incidents import NO_HISTORIES, Dispute, Histories
from simulators.psp.stripe import objects as stripe_objects
from simulators.psp.stripe.currencies import to_iso_minor
from simulators.psp.wechat import objects as wechat_objects

#: The wire of calls over gRPC.
OWN = "simulated"
_AMOUNTS = (
    "authorised_minor",
    "captured_minor",
    "released_minor",
    "refunded_minor",
    "open_minor",
    "refunds_undone_minor",
    "disputed_minor",
    "fees_minor",
)


def wire_of(payment_method: str) -> str:
    """The wire of a payment method: the prefix before its first `/`, or OWN."""
    wire, slash, _ = payment_method.partition("/")
    return wire if slash else OWN


def statement_entry(hold: Hold, histories: Histories = NO_HISTORIES) -> pb.StatementEntry:
    """The entry of a hold."""
    wire = wire_of(hold.payment_method)
    disputes = histories.disputes.get(hold.hold, [])
    made = pb.StatementEntry(
        hold=reference_of(hold),
        order=hold.order,
        group=hold.group,
        currency=hold.currency,
        authorised_minor=hold.authorised_minor,
        captured_minor=hold.captured_minor,
        released_minor=hold.released_minor,
        refunded_minor=hold.refunded_minor,
        open_minor=hold.open_minor,
        captures=hold.captures,
        wire=wire,
        environment=histories.environments.get(hold.hold, ""),
        refunds_undone_minor=histories.undone.get(hold.hold, 0),
        disputed_minor=sum(one.taken_minor for one in disputes),
        fees_minor=histories.fees.get(hold.hold, 0),
        disputes=[dispute_entry(one, hold) for one in disputes],
        external_operations=histories.external.get(hold.hold, []),
    )
    if wire == stripe_objects.WIRE:
        for name in _AMOUNTS:
            setattr(made, name, to_iso_minor(getattr(made, name), hold.currency))
        for operation in made.external_operations:
            operation.amount_minor = to_iso_minor(operation.amount_minor, hold.currency)
    for operation in made.external_operations:
        operation.operation = _source(operation.operation, operation.kind == pb.EXTERNAL_KIND_REFUND, hold)
    return made


def _source(key: str, refund: bool, hold: Hold | None) -> str:
    """The reference of a call that its merchant knows: its key or, for an operation by hand, the id at its wire."""
    if hold is None or not by_hand(key):
        return named_key(key)
    wire = wire_of(hold.payment_method)
    if wire == stripe_objects.WIRE:
        return stripe_objects.refund_id(hold.hold, key) if refund else stripe_objects.charge_id(hold.hold)
    if wire == wechat_objects.WIRE and refund:
        return wechat_objects.refund_id(key)
    return key


def dispute_entry(dispute: Dispute, hold: Hold) -> pb.Dispute:
    """A dispute as the statement has it."""
    return pb.Dispute(
        dispute=dispute.dispute,
        hold=reference_of(hold),
        amount_minor=iso_minor(dispute.amount_minor, hold),
        currency=dispute.currency,
        fee_minor=iso_minor(dispute.fee_minor, hold),
        reason=dispute.reason,
        state=dispute.state,
        opened_ms=dispute.opened_ms,
        evidence_due_ms=dispute.evidence_due_ms,
    )


def balance_entry(booking: Booking, hold: Hold | None) -> pb.BalanceTransaction:
    """A balance transaction as the statement has it; `hold` None for a payout."""
    stripe = booking.wire == stripe_objects.WIRE

    def minor(amount: int) -> int:
        return to_iso_minor(amount, booking.currency) if stripe else amount

    return pb.BalanceTransaction(
        transaction=booking.reference,
        kind=booking.kind,
        hold=reference_of(hold) if hold is not None else "",
        source=_source(booking.source, booking.kind != pb.BALANCE_KIND_CHARGE, hold),
        currency=booking.currency,
        amount_minor=minor(booking.amount_minor),
        fee_minor=minor(booking.fee_minor),
        at_ms=booking.at_ms,
        payout=booking.payout,
        wire=booking.wire,
    )


def reference_of(hold: Hold) -> str:
    """The reference of a hold that its merchant knows: a payment intent, or the merchant's own trade number."""
    match wire_of(hold.payment_method):
        case stripe_objects.WIRE:
            return stripe_objects.intent_id(hold.hold)
        case wechat_objects.WIRE:
            return hold.key
        case _:
            return hold.hold


def iso_minor(amount: int, hold: Hold) -> int:
    """An amount of a hold in minor units of ISO 4217."""
    return to_iso_minor(amount, hold.currency) if wire_of(hold.payment_method) == stripe_objects.WIRE else amount
