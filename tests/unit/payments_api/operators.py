"""Operators who call the payments service in memory, each with an identity of its own."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import (
    OPERATION_AUTHORISE,
    OPERATION_CAPTURE,
    OPERATION_REFUND,
    OPERATION_SALE,
)
from groupbuy.payments.v1.inbox_pb2 import DISPUTE_STATE_OPEN, OutcomeDispute, PaymentInput, ProviderOutcome

from chassis.routing.partition_router import Partitions
from chassis.routing.peer_calls import CALLER
from eventlog.core.errors import NotReady
from services.payments.api.operators.operator import OperatorServicer
from services.payments.domain.rules_version import CURRENT
from tests.scenarios.api_call import CallContext
from tests.scenarios.facts import GROUP
from tests.scenarios.group_events import hold_of, release_requested, seat_reserved, settlement_requested
from tests.scenarios.inputs import authorised, captured, declined, retry_later
from tests.unit.payments_api.service import ORDER, TIME_MS, Decider, Inbox

NAME = f"groups/{GROUP}/orders/{ORDER}/payment"
ALICE, BOB = "alice", "bob"


class NamedContext(CallContext):
    """A call whose caller names itself, as a forwarding replica does."""

    def __init__(self, seconds: float, caller: str) -> None:
        super().__init__(seconds)
        self._caller = caller

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ((CALLER, self._caller),)


class OperatorView(Decider):
    """The payment decider under the current rules, which also lists its groups."""

    moved = False

    def receive(self, record: PaymentInput, key: str = GROUP) -> None:
        record.rules_version = CURRENT
        super().receive(record, key)

    def owe(self, order: str = ORDER, amount: int = 100) -> None:
        """A sale is released, and the provider declines its refund."""
        self.group(seat_reserved(order, "ann", amount, payment_method="wallet_secret", hold_until_ms=TIME_MS + 1000))
        self.provider(OPERATION_SALE, order, **authorised(hold_of(order), amount, TIME_MS * 2))
        self.group(release_requested(order))
        self.provider(OPERATION_REFUND, order, **declined("account closed"))

    def sell(self, price: int, order: str = ORDER, amount: int = 100) -> None:
        """A sale is settled at a lower price, and the refund of the difference has no result."""
        self.group(seat_reserved(order, "ann", amount, payment_method="wallet_secret", hold_until_ms=TIME_MS + 1000))
        self.provider(OPERATION_SALE, order, **authorised(hold_of(order), amount, TIME_MS * 2))
        self.group(settlement_requested(order, price))
        self.provider(OPERATION_REFUND, order, **retry_later("timeout"))

    def stray(self, order: str = ORDER, hold: str = "stray", amount: int = 70) -> None:
        """Money of another hold is taken, which nobody asked for."""
        self.provider(OPERATION_CAPTURE, order, 9, **captured(hold, amount))

    def stick(self, order: str = ORDER, amount: int = 100) -> None:
        """The result of a capture is unknown."""
        self.reserve(order, amount)
        self.provider(OPERATION_AUTHORISE, order, **authorised(hold_of(order), amount, TIME_MS * 2))
        self.group(settlement_requested(order, amount))
        self.provider(OPERATION_CAPTURE, order, **retry_later("timeout"))

    def dispute(self, order: str = ORDER, amount: int = 100) -> None:
        """The customer disputes a charge."""
        opened = OutcomeDispute(
            hold=hold_of(order),
            dispute="dp_1",
            state=DISPUTE_STATE_OPEN,
            amount_minor=amount,
            withdrawn_minor=amount,
            fee_minor=15,
            evidence_due_ms=TIME_MS * 2,
        )
        self.receive(PaymentInput(outcome=ProviderOutcome(order=order, dispute=opened)))

    async def groups_with_issues(self, partitions: Partitions = None) -> list[str]:
        if self.moved:
            raise NotReady("moved")
        return sorted(self.keys())


def context(operator: str = ALICE, seconds: float = 5.0) -> Any:
    return NamedContext(seconds, operator)


def operators(view: OperatorView, inbox: Inbox | None = None) -> OperatorServicer:
    """The servicer over a decider."""
    return OperatorServicer(view, inbox or Inbox(view), lambda: TIME_MS)


def fields(**given: Any) -> dict[str, Any]:
    """The fields that all repairs have, with a new request id."""
    return {"name": NAME, "request_id": str(uuid4()), "reason": "because"} | given


async def issues(view: OperatorView, **given: Any) -> list[pb.Issue]:
    """All issues, over all pages."""
    found: list[pb.Issue] = []
    request = pb.ListIssuesRequest(**{"parent": "groups/-"} | given)
    while True:
        page = await operators(view).ListIssues(request, context())
        found += page.issues
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
