"""Maps the decisions of stock items and allowances to answers in the inboxes of the groups that they name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.inventory.v1.decisions_pb2 import AllowanceDecision, StockDecision

from eventlog.core.route_mapper import Routed, RouteMapper, RouteMappers
from shared_kernel import topics


class AnswerRoutes(RouteMappers):
    """The mappers of the groups router."""

    def for_partition(self, topic: str, partition: int) -> RouteMapper:
        """See RouteMappers."""
        if topic == topics.STOCK_LOG.name:
            return _StockMapper(topic, partition)
        return _AllowanceMapper(topic, partition)


class _AnswerMapper(RouteMapper):
    """Answers of one batch."""

    def __init__(self, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition

    def _answer(self, offset: int) -> GroupInput:
        """An input that names the decision it follows from."""
        made = GroupInput()
        made.source.topic = self._topic
        made.source.partition = self._partition
        made.source.offset = offset
        return made


class _StockMapper(_AnswerMapper):
    """Leases, and answers that there are too few pieces."""

    def decode(self, value: bytes, /) -> StockDecision:
        """See RouteMapper."""
        return StockDecision.FromString(value)

    def routes(self, record: Any) -> Sequence[Routed]:
        """The first answer to each group; a group has one request without an answer at most."""
        decision = StockDecision.FromString(record.value)
        self.decision = decision
        found: dict[str, Routed] = {}
        for event in decision.events[:]:
            body = event.WhichOneof("body")
            if body == "leased":
                group = event.leased.group
                made = self._answer(record.offset)
                made.stock_answer.granted = event.leased.units
            elif body == "out_of_stock":
                group = event.out_of_stock.group
                made = self._answer(record.offset)
                made.stock_answer.free = event.out_of_stock.free
                made.stock_answer.queued = event.out_of_stock.queued
            elif body is None:
                raise DecodeError("the StockEvent has no body that this build knows")
            else:
                continue
            made.stock_answer.stock = decision.stock
            made.stock_answer.version = decision.version
            found.setdefault(group, Routed(topics.GROUP_INBOX.name, group, made.SerializeToString()))
        return tuple(found.values())


class _AllowanceMapper(_AnswerMapper):
    """Admissions and denials of orders. The group knows an answered order by its id."""

    def decode(self, value: bytes, /) -> AllowanceDecision:
        """See RouteMapper."""
        return AllowanceDecision.FromString(value)

    def routes(self, record: Any) -> Sequence[Routed]:
        """One record for each order."""
        decision = AllowanceDecision.FromString(record.value)
        self.decision = decision
        found = []
        for event in decision.events[:]:
            body = event.WhichOneof("body")
            if body in ("admitted", "denied"):
                answered = getattr(event, body)
                made = self._answer(record.offset)
                made.admission_answer.order = answered.order
                made.admission_answer.admitted = body == "admitted"
                found.append(Routed(topics.GROUP_INBOX.name, answered.group, made.SerializeToString()))
            elif body is None:
                raise DecodeError("the AllowanceEvent has no body that this build knows")
        return found
