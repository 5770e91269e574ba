"""Copies the group decisions that a purse follows into the payment inbox, as the bytes they came in.

Must never decide anything.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from eventlog.deadletter import Undecodable
from eventlog.sequencer import Missing
from eventlog.wire import BytesField, OriginField
from services.payments.domain.group import follows

_GROUP_DECISION = BytesField(PaymentInput.GROUP_DECISION_FIELD_NUMBER)
_decision = GroupDecision.FromString


class PaymentCopying:
    """Copying rules of the payment inbox."""

    def of(self, topic: str, partition: int) -> _Decisions:
        """See Copying."""
        return _Decisions(OriginField(PaymentInput.SOURCE_FIELD_NUMBER, topic, partition))


class _Decisions:
    """Group decisions of one batch."""

    def __init__(self, source: OriginField) -> None:
        self._source = source

    def wrap(self, record: Any) -> bytes | None:
        """The inbox record of a group decision; None where nothing in it is about money. Raises Undecodable."""
        value = record.value or b""
        try:
            decision = _decision(value)
        except DecodeError as error:
            raise Undecodable(f"not a GroupDecision: {error}") from error
        if record.key is None or decision.group.encode() != record.key:
            raise Undecodable(f"a GroupDecision of group {decision.group!r} under the key {record.key!r}")
        if not follows(decision):
            return None
        return self._source.of(record.offset) + _GROUP_DECISION.of(value)

    async def learn(self, missing: Missing) -> None:
        """Needs nothing beside the records."""

    def reject(self, record: Any, error: str) -> bytes | None:
        """Nobody waits for a decision that can't be read; the dead letter is the alarm."""
        return None
