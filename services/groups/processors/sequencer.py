"""Maps order facts, and the payment decisions that a group reacts to, to records of the group inbox.

An order that opens a group gets its campaign beside it. A record is decoded to check it; the inbox record contains its
original bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import GroupInput, OrderRejected
from groupbuy.log.v1.log_pb2 import Source
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from chassis.lifecycle.backoff import retries_until_success
from eventlog.consuming.resume import Source as CopiedFrom
from eventlog.core.errors import BrokerUnavailable
from eventlog.core.inbox_mapper import DependencyUnavailable, RecordMapper
from eventlog.records.dead_letters import Undecodable
from eventlog.records.envelope import header
from eventlog.records.wire import BytesField, SourceField
from services.groups.domain.command import reacts_to
from shared_kernel.decoding import DecisionMapper, decode_for_group, source_of

log = logging.getLogger(__name__)

#: Header with the id of the campaign of an order that opens a group.
CAMPAIGN_HEADER = "groupbuy-campaign"

_ORDER_FACT = BytesField(GroupInput.ORDER_FACT_FIELD_NUMBER)
_PAYMENT_DECISION = BytesField(GroupInput.PAYMENT_DECISION_FIELD_NUMBER)
_CAMPAIGN = BytesField(GroupInput.CAMPAIGN_FIELD_NUMBER)

Find = Callable[[str], Campaign | None]
GetLatest = Callable[[str], Awaitable[Campaign | None]]


class GroupInboxMapper:
    """InboxMapper of the group inbox."""

    def __init__(self, orders_topic: str, find: Find, get_latest: GetLatest) -> None:
        """`find` looks a campaign up in memory; `get_latest` first reads the campaigns' topic to its end."""
        self._orders_topic = orders_topic
        self._find = find
        self._get_latest = get_latest

    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        """See InboxMapper."""
        source = SourceField(GroupInput.SOURCE_FIELD_NUMBER, topic, partition)
        if topic == self._orders_topic:
            return _OrderFactMapper(topic, partition, source, self._find, self._get_latest)
        return DecisionMapper(PaymentDecision, reacts_to, source, _PAYMENT_DECISION)

    def copies_all(self, topic: str) -> bool:
        """See CopiesAll."""
        return topic == self._orders_topic

    def source_of(self, value: bytes) -> CopiedFrom | None:
        """See TracesCopies."""
        return source_of(GroupInput, value)


class _OrderFactMapper(RecordMapper):
    """Maps the order facts of one batch."""

    def __init__(self, topic: str, partition: int, source: SourceField, find: Find, get_latest: GetLatest) -> None:
        self._topic = topic
        self._partition = partition
        self._source = source
        self._find = find
        self._get_latest = get_latest
        #: Whether the campaigns' topic was read to its end after the batch was fetched: then every campaign that an
        #: order of the batch can name is known.
        self._read_to_end = False

    def map_record(self, record: Any) -> bytes:
        """The inbox record of a fact. Raises Undecodable, and DependencyUnavailable if the fact opens a group of a
        campaign that is not known yet."""
        value = record.value or b""
        fact = decode_for_group(OrderFact, value, record.key)
        body = fact.WhichOneof("body")
        if body is None:
            raise Undecodable("the OrderFact has an unknown body")
        wrapped = self._source.of(record.offset) + _ORDER_FACT.of(value)
        if body == "placed":
            placed = fact.placed
            if placed.opens_group or placed.solo:
                return wrapped + self._campaign(header(record.headers, CAMPAIGN_HEADER))
        return wrapped

    def _campaign(self, name: str | None) -> bytes:
        """The field with the campaign; empty if there is none."""
        if not name:
            return b""
        campaign = self._find(name)
        if campaign is None:
            if self._read_to_end:
                return b""
            raise DependencyUnavailable(name)
        return _CAMPAIGN.of(campaign.SerializeToString())

    async def load_dependency(self, missing: DependencyUnavailable) -> None:
        """Reads the campaigns' topic to its end, at most once a batch. Retries while the broker is unavailable."""
        (name,) = missing.args
        async for attempt in retries_until_success(BrokerUnavailable):
            with attempt:
                try:
                    self._read_to_end = await self._get_latest(name) is None
                except BrokerUnavailable as error:
                    log.warning("reading the campaigns' topic failed; retrying in %.1f s: %s", attempt.next_wait, error)
                    raise

    def reject(self, record: Any, error: str) -> bytes | None:
        """The rejection of an order that can't be decoded; its name is in the headers."""
        subject = header(record.headers, "ce_subject") or ""
        parts = subject.split("/")
        if len(parts) != 4 or parts[1].encode() != record.key:
            return None
        source = Source(topic=self._topic, partition=self._partition, offset=record.offset)
        rejected = OrderRejected(order=parts[3], error=error[:500])
        return GroupInput(source=source, order_rejected=rejected).SerializeToString()
