"""Copies the group decisions that concern payments into the payment inbox, byte for byte. It decides nothing."""

from __future__ import annotations

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from eventlog.consuming.resume import Source
from eventlog.core.inbox_mapper import RecordMapper
from eventlog.records.wire import BytesField, SourceField
from services.payments.domain.on_group_event import concerns_payments
from shared_kernel.decoding import DecisionMapper, source_of

_GROUP_DECISION = BytesField(PaymentInput.GROUP_DECISION_FIELD_NUMBER)


class PaymentInboxMapper:
    """Maps group decisions to records of the payment inbox."""

    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        """See InboxMapper."""
        source = SourceField(PaymentInput.SOURCE_FIELD_NUMBER, topic, partition)
        return DecisionMapper(GroupDecision, concerns_payments, source, _GROUP_DECISION)

    def source_of(self, value: bytes) -> Source | None:
        """See TracesCopies."""
        return source_of(PaymentInput, value)
