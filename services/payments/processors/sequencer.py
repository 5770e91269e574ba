"""Copies the group decisions that concern payments into the payment inbox, byte for byte. It decides nothing."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from eventlog.consuming.resume import Source
from eventlog.core.inbox_mapper import RecordMapper
from eventlog.records.wire import BytesField, SourceField
from services.payments.domain.on_group_event import concerns_payments
from shared_kernel.decoding import decode_for_group

_GROUP_DECISION = BytesField(PaymentInput.GROUP_DECISION_FIELD_NUMBER)


class PaymentInboxMapper:
    """Maps group decisions to records of the payment inbox."""

    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        """See InboxMapper."""
        return _GroupDecisions(SourceField(PaymentInput.SOURCE_FIELD_NUMBER, topic, partition))

    def source_of(self, value: bytes) -> Source | None:
        """See TracesCopies."""
        try:
            found = PaymentInput.FromString(value)
        except DecodeError:
            return None
        source = found.source
        return Source(source.topic, source.partition, source.offset) if found.HasField("source") else None


class _GroupDecisions(RecordMapper):
    """Group decisions of one batch."""

    from_decision_log = True

    @staticmethod
    def decode(value: bytes, /) -> GroupDecision:
        """See RecordMapper."""
        return GroupDecision.FromString(value)

    def __init__(self, source: SourceField) -> None:
        self._source = source

    def map_record(self, record: Any) -> bytes | None:
        """The inbox record of a group decision; None if it does not concern payments. Raises Undecodable."""
        value = record.value or b""
        decision = self.decision = decode_for_group(GroupDecision, value, record.key)
        if not concerns_payments(decision):
            return None
        return self._source.of(record.offset) + _GROUP_DECISION.of(value)
