"""The operators of the day: they act on each issue that is listed, and note what was accepted."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any
from uuid import uuid4

import grpc
from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import OPERATION_REFUND
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from groupbuy.payments.v1.ledger_pb2 import LEDGER_ACCOUNT_ADJUSTMENTS, LEDGER_ACCOUNT_MERCHANT
from groupbuy.payments.v1.operator_pb2_grpc import OperatorServiceStub

from chassis.routing.peer_calls import CALLER
from tests.day.calls import retried

PAUSE_S = 1.0
ALICE, BOB = "alice", "bob"
#: Every so many-th unexpected charge is kept, and every so many-th owed sum is returned by a bank transfer at once.
KEPT, TRANSFERRED = 5, 4
#: Answers after which the list is read again: another decision was faster.
_OVERTAKEN = frozenset({grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED, grpc.StatusCode.NOT_FOUND})
_NUMBERS = re.compile(r"\d+")


class Operators:
    """Two operators with an identity each."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = OperatorServiceStub(channel)
        #: Request id -> (operator, action) of each accepted repair.
        self.accepted: dict[str, tuple[str, str]] = {}
        #: Commands that were refused, by method and answer.
        self.refused: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self._tries: Counter[str] = Counter()
        #: Whether an unexpected charge is kept, by issue.
        self._keeps: dict[str, bool] = {}

    async def issues(self, *kinds: int) -> list[pb.Issue]:
        """All open issues."""
        request = pb.ListIssuesRequest(parent="groups/-", page_size=200)
        request.kinds.extend(kinds)  # type: ignore[arg-type] # kinds by their numbers
        found: list[pb.Issue] = []
        while True:
            page = await retried(self._stub.ListIssues, request)
            found += page.issues
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def repair(self, operator: str, method: str, request: Any, reason: str) -> bool:
        """Makes one repair. Returns whether it was done."""
        request.request_id, request.reason = str(uuid4()), reason
        try:
            repair = await retried(getattr(self._stub, method), request, ((CALLER, operator),))
        except grpc.aio.AioRpcError as error:
            if error.code() not in _OVERTAKEN:
                raise
            self.refused[f"{method}: {_NUMBERS.sub('…', (error.details() or '').split('/payment ')[-1])}"] += 1
            return False
        self.accepted[repair.request_id] = (repair.operator, repair.action.WhichOneof("action") or "")
        return True

    async def attend(self) -> None:
        """Acts on issues until cancelled."""
        while True:
            for issue in await self.issues():
                await self.act(issue)
            await asyncio.sleep(PAUSE_S)

    async def act(self, issue: pb.Issue) -> None:
        """Does what an issue needs."""
        name = f"{issue.kind} {issue.payment} {issue.hold} {issue.reference}"
        tried = self._tries[name]
        self._tries[name] += 1
        self.seen[pb.IssueKind.Name(issue.kind).removeprefix("ISSUE_KIND_").lower()] += not tried
        common: dict[str, Any] = {"name": issue.payment, "expected_version": issue.version}
        match issue.kind:
            case pb.ISSUE_KIND_OWED:
                if tried >= 2 or len(self._tries) % TRANSFERRED == 0:
                    outside = pb.MarkReturnedOutsideRequest(
                        amount_minor=issue.amount_minor,
                        reference=f"SEPA {len(self._tries)}",
                        hold=issue.hold,
                        refund=issue.reference,
                        **common,
                    )
                    await self.repair(ALICE, "MarkReturnedOutside", outside, "the card is closed")
                else:
                    retry = pb.RetryCallRequest(operation=OPERATION_REFUND, **common)
                    await self.repair(ALICE, "RetryCall", retry, "the customer asks for the money")
            case pb.ISSUE_KIND_SUSPENSE:
                if "taken" in issue.reason and self._keeps.setdefault(name, len(self._keeps) % KEPT == 0):
                    keep = pb.KeepSuspenseRequest(hold=issue.hold, **common)
                    await self.repair(ALICE, "KeepSuspense", keep, "sold by telephone")
                else:
                    approve = pb.ApproveReturnRequest(hold=issue.hold, **common)
                    await self.repair(ALICE, "ApproveReturn", approve, "nobody ordered this")
            case pb.ISSUE_KIND_ADJUSTMENT:
                approval = pb.ApproveAdjustmentRequest(proposal=issue.reference, **common)
                await self.repair(BOB, "ApproveAdjustment", approval, "checked with the bank")

    async def adjust(self, payment: str, currency: str, amount: int) -> None:
        """Proposes an adjustment and its reversal, which the other operator approves."""
        accounts = (LEDGER_ACCOUNT_MERCHANT, LEDGER_ACCOUNT_ADJUSTMENTS)
        for source, target in (accounts, accounts[::-1]):
            request = pb.AdjustLedgerRequest(
                name=payment, from_account=source, to_account=target, amount_minor=amount, currency=currency
            )
            await self.repair(ALICE, "AdjustLedger", request, "a rounding of the bank's statement, and its reversal")

    async def feed(self, payment: str, outcome: ProviderOutcome) -> None:
        """Feeds a finding of the provider's statement."""
        request = pb.FeedOutcomeRequest(name=payment, reason="balance transactions of the day", outcome=outcome)
        await retried(self._stub.FeedOutcome, request, ((CALLER, BOB),))
