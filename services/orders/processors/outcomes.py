"""Maps decisions to the records of orders.outcome.v1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.outcomes_pb2 import OrderOutcome
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from eventlog.records.envelope import HeaderTemplate
from services.orders.domain.model import GroupOrders
from services.orders.domain.outcome import of_group, of_payment

SOURCE = "/groupbuy/orders"


class OutcomeMapper:
    """The outcomes of decision records, which are folded already."""

    def __init__(self, groups_topic: str, payments_topic: str) -> None:
        self._groups_topic = groups_topic
        self._payments_topic = payments_topic
        self._headers = HeaderTemplate(OrderOutcome.DESCRIPTOR.full_name, SOURCE)

    def concerns(self, topic: str) -> bool:
        """Whether records of a topic have outcomes."""
        return topic in (self._groups_topic, self._payments_topic)

    def outcomes(self, topic: str, state: GroupOrders, record: Any) -> Iterable[OrderOutcome]:
        """The outcomes of a record."""
        value = record.value or b""
        if topic == self._groups_topic:
            return of_group(state, GroupDecision.FromString(value))
        return of_payment(state, PaymentDecision.FromString(value))

    def headers(self, outcome: OrderOutcome) -> list[tuple[str, bytes]]:
        """The headers of an outcome. Readers can tell its id and its order without decoding it."""
        subject = f"groups/{outcome.group}/orders/{outcome.order}"
        return self._headers.headers(outcome.id, outcome.time_ms, subject)
