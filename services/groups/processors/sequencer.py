"""Copies order facts, and the payment decisions that a group reacts to, into the group inbox.

Beside an order that opens a group goes its campaign.

A fact is checked for being one, then wrapped as the bytes it came in. Must never decide anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import GroupInput, OrderRejected
from groupbuy.log.v1.log_pb2 import Source
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from eventlog.deadletter import Undecodable
from eventlog.envelope import header
from eventlog.wire import BytesField, OriginField
from services.groups.domain.command import reacts_to

M = TypeVar("M", OrderFact, PaymentDecision)

#: Header with the id of the campaign that an order opens a group of.
CAMPAIGN_HEADER = "groupbuy-campaign"

_SOURCE = OriginField(GroupInput.SOURCE_FIELD_NUMBER)
_ORDER_FACT = BytesField(GroupInput.ORDER_FACT_FIELD_NUMBER)
_PAYMENT_DECISION = BytesField(GroupInput.PAYMENT_DECISION_FIELD_NUMBER)
_CAMPAIGN = BytesField(GroupInput.CAMPAIGN_FIELD_NUMBER)


class GroupCopying:
    """Copying rules of the group inbox."""

    def __init__(
        self,
        orders_topic: str,
        payments_topic: str,
        find: Callable[[str], Campaign | None],
        find_fresh: Callable[[str], Awaitable[Campaign | None]],
    ) -> None:
        self._orders_topic = orders_topic
        self._payments_topic = payments_topic
        self._find = find
        self._find_fresh = find_fresh

    async def prepare(self, records: Sequence[Any]) -> None:
        """Reads the campaigns' topic to its end if a record names a campaign that is not known yet."""
        if records[0].topic != self._orders_topic:
            return
        for record in records:
            campaign = header(record.headers, CAMPAIGN_HEADER)
            if campaign and self._find(campaign) is None:
                await self._find_fresh(campaign)

    def wrap(self, record: Any) -> bytes | None:
        """The inbox record of a fact; None for a payment decision that is none of a group's business.

        Raises Undecodable.
        """
        value = record.value or b""
        if record.topic == self._payments_topic:
            if not reacts_to(_checked(PaymentDecision, value, record.key)):
                return None
            return _SOURCE.of(record.topic, record.partition, record.offset) + _PAYMENT_DECISION.of(value)
        fact = _checked(OrderFact, value, record.key)
        body = fact.WhichOneof("body")
        if body is None:
            raise Undecodable("an OrderFact with an unknown body")
        wrapped = _SOURCE.of(record.topic, record.partition, record.offset) + _ORDER_FACT.of(value)
        if body != "placed" or not (fact.placed.opens_group or fact.placed.solo):
            return wrapped
        name = header(record.headers, CAMPAIGN_HEADER)
        campaign = self._find(name) if name else None
        return wrapped if campaign is None else wrapped + _CAMPAIGN.of(campaign.SerializeToString())

    def reject(self, record: Any, error: str) -> bytes | None:
        """Tells the group of an order that could not be read; its name stands in the headers."""
        subject = header(record.headers, "ce_subject") or ""
        parts = subject.split("/")
        if record.topic != self._orders_topic or len(parts) != 4 or parts[1].encode() != record.key:
            return None
        source = Source(topic=record.topic, partition=record.partition, offset=record.offset)
        rejected = OrderRejected(order=parts[3], error=error[:500])
        return GroupInput(source=source, order_rejected=rejected).SerializeToString()


def _checked(message: type[M], value: bytes, key: bytes | None) -> M:
    """Raises Undecodable when the bytes are not such a message, or not of the group that the key names."""
    try:
        decoded = message.FromString(value)
    except DecodeError as error:
        raise Undecodable(f"not a {message.DESCRIPTOR.name}: {error}") from error
    if key is None or decoded.group.encode() != key:
        raise Undecodable(f"a {message.DESCRIPTOR.name} of group {decoded.group!r} under the key {key!r}")
    return decoded
