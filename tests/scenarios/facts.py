"""Builders of order facts and of campaigns."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced

#: The group of most scenarios.
GROUP = "0b6a0c2e-0f54-5a4e-9a59-3f3a5f1f7a10"


def placed(order: str, *, group: str, customer: str, **changes: Any) -> OrderFact:
    """An order of one piece in the campaign `mug`."""
    fields: dict[str, Any] = {"campaign": "mug", "quantity": 1, "currency": "CNY", "payment_method": "card_ok"}
    return OrderFact(order=order, group=group, customer=customer, placed=OrderPlaced(**fields | changes))


def cancel_requested(order: str, *, group: str, customer: str, **fields: Any) -> OrderFact:
    body = OrderCancelRequested(**fields)
    return OrderFact(order=order, group=group, customer=customer, cancel_requested=body)


def digest_of(text: str) -> bytes:
    """The SHA-256 of a text, which stands for that of a request."""
    return sha256(text.encode()).digest()


def duration(milliseconds: int) -> Duration:
    return Duration(seconds=milliseconds // 1_000, nanos=milliseconds % 1_000 * 1_000_000)


def campaign(**changes: Any) -> Campaign:
    """Ten seats at 9,900; 8,900 from two members, 7,900 from five; window 1 h, hold window 1 min."""
    fields: dict[str, Any] = {
        "product": "mug",
        "currency": "CNY",
        "solo_price_minor": 9_900,
        "tiers": [Tier(members=2, unit_price_minor=8_900), Tier(members=5, unit_price_minor=7_900)],
        "capacity": 10,
        "window": duration(3_600_000),
        "hold_window": duration(60_000),
    }
    return Campaign(**fields | changes)
