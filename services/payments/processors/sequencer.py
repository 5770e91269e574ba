"""Copies the group decisions that a purse follows into the payment inbox, as the bytes they came in.

Must never decide anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from eventlog.deadletter import Undecodable
from eventlog.wire import BytesField, OriginField
from services.payments.domain.group import follows

_SOURCE = OriginField(PaymentInput.SOURCE_FIELD_NUMBER)
_GROUP_DECISION = BytesField(PaymentInput.GROUP_DECISION_FIELD_NUMBER)


class PaymentCopying:
    """Copying rules of the payment inbox."""

    async def prepare(self, records: Sequence[Any]) -> None:
        """Needs nothing beside the records."""

    def wrap(self, record: Any) -> bytes | None:
        """The inbox record of a group decision; None where nothing in it is about money. Raises Undecodable."""
        value = record.value or b""
        try:
            decision = GroupDecision.FromString(value)
        except DecodeError as error:
            raise Undecodable(f"not a GroupDecision: {error}") from error
        if record.key is None or decision.group.encode() != record.key:
            raise Undecodable(f"a GroupDecision of group {decision.group!r} under the key {record.key!r}")
        if not follows(decision):
            return None
        source = _SOURCE.of(record.topic, record.partition, record.offset)
        return source + _GROUP_DECISION.of(value)

    def reject(self, record: Any, error: str) -> bytes | None:
        """Nobody waits for a decision that can't be read; the dead letter is the alarm."""
        return None
