"""Copies the group decisions that concern payments into the payment inbox, byte for byte. It decides nothing.

Each copy is stamped with the version of the rules that a group without payments gets, and with the age from which holds
are checked, since a setting that decides has to be in the log.
"""

from __future__ import annotations

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from eventlog.consuming.resume import Source
from eventlog.core.inbox_mapper import RecordMapper
from eventlog.records.wire import BytesField, SourceField
from services.payments.domain.inputs.on_group_event import concerns_payments
from services.payments.domain.rules_version import CURRENT
from shared_kernel.decoding import DecisionMapper, source_of

_GROUP_DECISION = BytesField(PaymentInput.GROUP_DECISION_FIELD_NUMBER)


class PaymentInboxMapper:
    """Maps group decisions to records of the payment inbox."""

    def __init__(self, rules_version: int = CURRENT, check_holds_after_ms: int = 0) -> None:
        """`rules_version` is that of new groups. Holds of this age are checked before their group closes; 0: none."""
        stamp = PaymentInput(rules_version=rules_version, check_holds_after_ms=check_holds_after_ms)
        self._stamp = stamp.SerializeToString()

    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        """See InboxMapper."""
        source = SourceField(PaymentInput.SOURCE_FIELD_NUMBER, topic, partition)
        return DecisionMapper(GroupDecision, concerns_payments, source, _GROUP_DECISION, self._stamp)

    def source_of(self, value: bytes) -> Source | None:
        """See TracesCopies."""
        return source_of(PaymentInput, value)
