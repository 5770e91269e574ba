"""Statement entries: each hold by the reference and in the units that its merchant knows, by API.

A merchant of Stripe's knows payment intents, and one of WeChat Pay's its own trade numbers. Amounts of Stripe's are
converted to minor units of ISO 4217.
"""

from __future__ import annotations

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.holds import Hold
from simulators.psp.stripe import objects as stripe_objects
from simulators.psp.stripe.currencies import to_iso_minor
from simulators.psp.wechat import objects as wechat_objects

#: The wire of calls over gRPC.
OWN = "simulated"


def wire_of(payment_method: str) -> str:
    """The wire of a payment method: the prefix before its first `/`, or OWN."""
    wire, slash, _ = payment_method.partition("/")
    return wire if slash else OWN


def statement_entry(hold: Hold) -> pb.StatementEntry:
    """The entry of a hold."""
    reference, wire = hold.hold, wire_of(hold.payment_method)
    made = pb.StatementEntry(
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
    )
    match wire:
        case stripe_objects.WIRE:
            reference = stripe_objects.intent_id(hold.hold)
            for name in ("authorised_minor", "captured_minor", "released_minor", "refunded_minor", "open_minor"):
                setattr(made, name, to_iso_minor(getattr(made, name), hold.currency))
        case wechat_objects.WIRE:
            # Payments at WeChat Pay are known by the merchant's number.
            reference = hold.key
    made.hold = reference
    return made
