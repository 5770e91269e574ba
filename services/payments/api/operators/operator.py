"""OperatorService: repairs by operators. Each is a command in the payment inbox, and its decision says what was done.

The operator is the identity in the caller's certificate. The API refuses what it can know; the decider has the last
word, and records its refusals too.
"""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_RECONCILIATION,
    OperatorCommand,
    PaymentInput,
    ProviderOutcome,
)
from groupbuy.payments.v1.operator_pb2_grpc import OperatorServiceServicer
from groupbuy.payments.v1.payments_pb2 import Payment

from chassis.identity.authorizer import LOCAL
from chassis.routing.partition_router import LocalRouter
from chassis.routing.peer_calls import caller_of
from chassis.rpc.streaming.call_deadline import CallDeadline, wait_until
from chassis.rpc.trace_context import TraceStarter
from chassis.rpc.validation import invalid_field
from eventlog.core.aggregate import Aggregate
from eventlog.producing.publisher import RecordPublisher
from eventlog.producing.record_accumulator import Position, Record
from eventlog.records.envelope import headers
from eventlog.runtime.wall_clock import wall_clock_ms
from services.payments.api import errors
from services.payments.api.mapping import payment_message, payment_of
from services.payments.api.names import PaymentName, parse_payment
from services.payments.api.operators.operator_actions import RepairRequest, command_of
from services.payments.api.operators.operator_issues import IssueList, IssueView
from services.payments.api.operators.operator_preview import preview
from services.payments.api.payments import Context
from services.payments.api.refund_payment import PUBLISH_S, SOURCE
from services.payments.domain.decide import decode
from services.payments.domain.errors import UnknownInput
from services.payments.domain.rules_version import CURRENT, FIRST
from services.payments.domain.state.model import GroupPayments
from services.payments.domain.state.provider_life import Acted, action_digest
from shared_kernel.topics import PAYMENT_INBOX


class OperatorServicer(OperatorServiceServicer):
    """The service `groupbuy.payments.v1.OperatorService`."""

    def __init__(
        self,
        view: IssueView,
        publisher: RecordPublisher,
        now_ms: Callable[[], int] = wall_clock_ms,
        router: LocalRouter | None = None,
        trace_starter: TraceStarter | None = None,
        rules_version: int = CURRENT,
    ) -> None:
        """`router` finds the owners of the decider's partitions. `rules_version` is that of new groups; with the first,
        nothing can be repaired."""
        self._rules_version = rules_version
        self._view = view
        self._publisher = publisher
        self._now_ms = now_ms
        self._router = router or LocalRouter()
        self._issues = IssueList(view, self._router)
        self._trace_starter = trace_starter or TraceStarter()

    async def ListIssues(self, request: pb.ListIssuesRequest, context: Context) -> pb.ListIssuesResponse:
        """Payments with money owed, stuck, in suspense or in dispute."""
        return await self._issues.issues(request, context)

    async def RetryCall(self, request: pb.RetryCallRequest, context: Context) -> pb.Repair:
        """Retries a pending call, or the refund of an amount that is owed, now."""
        return await self._repair("RetryCall", request, context)

    async def GiveUpCall(self, request: pb.GiveUpCallRequest, context: Context) -> pb.Repair:
        """Stops a pending call for good."""
        return await self._repair("GiveUpCall", request, context)

    async def ReleaseMember(self, request: pb.ReleaseMemberRequest, context: Context) -> pb.Repair:
        """Releases a member of a stuck settlement."""
        return await self._repair("ReleaseMember", request, context)

    async def FailMember(self, request: pb.FailMemberRequest, context: Context) -> pb.Repair:
        """Fails a member of a stuck settlement."""
        return await self._repair("FailMember", request, context)

    async def MarkReturnedOutside(self, request: pb.MarkReturnedOutsideRequest, context: Context) -> pb.Repair:
        """Records that an amount owed reached the customer by other means."""
        return await self._repair("MarkReturnedOutside", request, context)

    async def ApproveReturn(self, request: pb.ApproveReturnRequest, context: Context) -> pb.Repair:
        """Returns unexpected funds now."""
        return await self._repair("ApproveReturn", request, context)

    async def KeepSuspense(self, request: pb.KeepSuspenseRequest, context: Context) -> pb.Repair:
        """Assigns unexpected funds to the merchant."""
        return await self._repair("KeepSuspense", request, context)

    async def AdjustLedger(self, request: pb.AdjustLedgerRequest, context: Context) -> pb.Repair:
        """Proposes an adjustment of the ledger."""
        return await self._repair("AdjustLedger", request, context)

    async def ApproveAdjustment(self, request: pb.ApproveAdjustmentRequest, context: Context) -> pb.Repair:
        """Approves an adjustment that another operator proposed."""
        return await self._repair("ApproveAdjustment", request, context)

    async def ResolveUnknown(self, request: pb.ResolveUnknownRequest, context: Context) -> pb.Repair:
        """States the result of a call whose result is unknown."""
        return await self._repair("ResolveUnknown", request, context)

    async def FeedOutcome(self, request: pb.FeedOutcomeRequest, context: Context) -> pb.FeedOutcomeResponse:
        """Appends an outcome that was found in a statement; answers once it is in the log."""
        self._require_repairs()
        name = parse_payment(request.name)
        if request.outcome.WhichOneof("result") is None:
            raise invalid_field("outcome.result", "is missing, or unknown to this build")
        outcome = ProviderOutcome()
        outcome.CopyFrom(request.outcome)
        outcome.order = name.order
        outcome.origin = OUTCOME_ORIGIN_RECONCILIATION
        outcome.operator = _operator(context)
        outcome.reason = request.reason
        record = PaymentInput(outcome=outcome, rules_version=self._rules_version)
        _require_known(record)
        if request.validate_only:

            async def here() -> pb.FeedOutcomeResponse:
                decision = preview(name.group, self._view.get(name.group), record, self._now_ms())
                return pb.FeedOutcomeResponse(offset=-1, preview=decision.events)

            return await self._router.call_owner("FeedOutcome", name.group, request, context, here)
        kind = f"{outcome.operation}:{outcome.WhichOneof('result')}"
        ce_id = f"{name.order}:{kind}:reconciled"
        position = await self._append(name, record, ce_id, ProviderOutcome.DESCRIPTOR.full_name, CallDeadline(context))
        return pb.FeedOutcomeResponse(partition=position.partition, offset=position.offset)

    # Repairs ------------------------------------------------------------------------------------------------------

    def _require_repairs(self) -> None:
        """Raises ApiError while a process runs that can't read an operator's command."""
        if self._rules_version == FIRST:
            raise errors.repairs_off()

    async def _repair(self, method: str, request: RepairRequest, context: Context) -> pb.Repair:
        self._require_repairs()
        name = parse_payment(request.name)

        async def here() -> pb.Repair:
            command = command_of(name.order, request, _operator(context))
            return await self._decided(name, request, command, CallDeadline(context))

        return await self._router.call_owner(method, name.group, request, context, here)

    async def _decided(
        self, name: PaymentName, request: RepairRequest, command: OperatorCommand, deadline: CallDeadline
    ) -> pb.Repair:
        aggregate = self._require(name)
        acted = self._find(name.group, command.request_id)
        if acted is None:
            self._check(name, request, command, aggregate)
        record = PaymentInput(operator=command, rules_version=self._rules_version)
        if request.validate_only and acted is None:
            return self._previewed(name, command, aggregate, record)
        if acted is None:
            ce_id = f"{name.group}:operator:{command.request_id}"
            await self._append(name, record, ce_id, OperatorCommand.DESCRIPTOR.full_name, deadline)
            acted = await self._wait(name, command.request_id, deadline)
        if acted.digest != action_digest(command.action, command.reason):
            raise errors.repair_id_reused(str(name))
        if acted.refusal:
            raise errors.repair_refused(str(name), acted.refusal)
        return pb.Repair(
            request_id=command.request_id,
            operator=acted.operator,
            action=command.action,
            payment=_payment(name, self._require(name)),
        )

    def _check(
        self, name: PaymentName, request: RepairRequest, command: OperatorCommand, seen: Aggregate[GroupPayments]
    ) -> None:
        """Raises ApiError for a new command that is refused for certain."""
        if request.expected_version and request.expected_version != seen.version:
            raise errors.version_mismatch(str(name), request.expected_version, seen.version)
        if isinstance(request, pb.ApproveAdjustmentRequest):
            proposal = command.action.approve_adjustment.proposal
            proposed = seen.state.adjustments.get(proposal)
            if proposed is not None and proposed.operator == command.operator:
                raise errors.second_operator_required(str(name), proposal, command.operator)
        if isinstance(request, pb.AdjustLedgerRequest) and request.from_account == request.to_account:
            raise invalid_field("to_account", "is the account that loses the amount")

    def _previewed(
        self, name: PaymentName, command: OperatorCommand, seen: Aggregate[GroupPayments], record: PaymentInput
    ) -> pb.Repair:
        decision = preview(name.group, seen, record, self._now_ms())
        refusals = [one.operator_acted.refusal for one in decision.events if one.HasField("operator_acted")]
        return pb.Repair(
            request_id=command.request_id,
            operator=command.operator,
            action=command.action,
            refusal=refusals[0] if refusals else "",
            payment=_payment(name, seen),
            preview=decision.events,
        )

    def _require(self, name: PaymentName) -> Aggregate[GroupPayments]:
        """The payments of the group. Raises ApiError PAYMENT_NOT_FOUND unless they have the order."""
        aggregate = self._view.get(name.group)
        if aggregate is None or name.order not in aggregate.state.orders:
            raise errors.payment_not_found(str(name))
        return aggregate

    def _find(self, group: str, request_id: str) -> Acted | None:
        aggregate = self._view.get(group)
        return aggregate.state.actions.get(request_id) if aggregate is not None else None

    async def _wait(self, name: PaymentName, request_id: str, deadline: CallDeadline) -> Acted:
        try:
            look = lambda: self._find(name.group, request_id)  # noqa: E731
            return await wait_until(self._view.notifier, name.group, look, deadline.left_s())
        except TimeoutError:
            raise errors.result_pending(str(name)) from None

    async def _append(
        self, name: PaymentName, value: PaymentInput, ce_id: str, kind: str, deadline: CallDeadline
    ) -> Position:
        made = headers(ce_id, kind, SOURCE, self._now_ms(), str(name))
        self._trace_starter.add_to(made, name.order, SOURCE, ce_id)
        record = Record(name.group, value.SerializeToString(), made)
        timeout_s = max(deadline.left_s(PUBLISH_S), 0.001)
        return await self._publisher.publish(PAYMENT_INBOX.name, record, timeout_s=timeout_s)


def _require_known(record: PaymentInput) -> None:
    """Raises ApiError INVALID_FIELDS for an input that this build does not know: every decider would stop at it."""
    try:
        decode(record.SerializeToString())
    except UnknownInput as error:
        raise invalid_field("outcome", f"can't be processed: {error}") from None


def _operator(context: Context) -> str:
    return caller_of(context) or LOCAL


def _payment(name: PaymentName, aggregate: Aggregate[GroupPayments]) -> Payment | None:
    found = payment_of(aggregate.state, name.order)
    return None if found is None else payment_message(str(name), found, aggregate.version, aggregate.time_ms)
