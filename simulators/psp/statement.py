"""What a hold looks like on the statement: named and counted as its merchant knows it, whatever wire it came by.

A merchant of Stripe's knows payment intents and Stripe's minor units, one of WeChat Pay's knows its own trade numbers.
Must never change an amount, only the unit that it is counted in.
"""

from __future__ import annotations

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from services.payments.providers.stripe.amounts import from_stripe
from simulators.psp.rules import Hold
from simulators.psp.stripe import objects as stripe_objects
from simulators.psp.wechat import objects as wechat_objects

#: The wire of what came by gRPC.
OWN = "simulated"


def wire_of(payment_method: str) -> str:
    """By which wire a hold came."""
    wire, slash, _ = payment_method.partition("/")
    return wire if slash else OWN


def entry(hold: Hold) -> pb.StatementEntry:
    """The line of a hold."""
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
                setattr(made, name, from_stripe(getattr(made, name), hold.currency))
        case wechat_objects.WIRE:
            # Its payments are called by the merchant's own number.
            reference = hold.key
    made.hold = reference
    return made
