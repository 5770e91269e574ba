"""The auditor of a simulated world: the product's own audit, fed with every record as it is appended.

All rules are those of ops.audit, which imports no service. This adapter adds what only the simulation knows: which
records are forged, which orders make the rules fail, what the provider did, and the coverage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.inventory.v1.decisions_pb2 import AllowanceDecision, StockDecision
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import OPERATION_AUTHORISE, PaymentDecision, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from ops.audit import auditor as product
from ops.audit.cases import Case
from ops.audit.chain import Chain
from ops.audit.findings import TITLES, Findings, Invariant
from ops.audit.fold import AUDIT_TOPICS
from ops.audit.group.membership import GroupState
from ops.audit.group.seats import SeatState
from shared_kernel import topics
from tests.simulation.audit.violation import Violation
from tests.simulation.histories.coverage import Coverage
from tests.simulation.histories.plan import CHECK_HOLDS_AFTER_MS, PARTITIONS
from tests.simulation.world.broker import Broker, Record
from tests.simulation.world.provider import Account
from tests.simulation.world.shop import DEFECT

#: Time before a group's deadline at which old holds are checked.
CHECK_BEFORE_MS = 900_000

#: (group, order)
Order = tuple[str, str]


class RaisedFindings(Findings):
    """Raises the first violation that is not excused."""

    def __init__(self, auditor: Auditor) -> None:
        super().__init__()
        self._auditor = auditor

    def breach(self, invariant: Invariant, group: str, order: str, what: str) -> None:
        """Raises Violation."""
        if not self._auditor.excuses(invariant, group, order):
            raise Violation(TITLES[invariant], group, f"{order}: {what}" if order else what)


class Auditor:
    """The auditor of one broker."""

    def __init__(self, broker: Broker, coverage: Coverage) -> None:
        self._broker = broker
        self._counts = coverage.counts
        self.audit = product.Auditor(PARTITIONS, with_inputs=True, findings=RaisedFindings(self))
        #: Number of inputs of both inboxes.
        self.inputs = 0
        #: Orders with forged payment events or forged requests.
        self.forged: set[Order] = set()
        #: Groups whose rules may fail: of an order with the planted defect, or with invalid claims or forged events.
        self._defective: set[str] = set()
        self.misled: set[str] = set()
        #: Amounts whose refund the provider declined, by order.
        self.declined_refunds: dict[Order, list[int]] = {}
        #: The provider's answers to each check of a hold, by key: whether it has ended.
        self.checked: dict[str, set[bool]] = {}
        #: Forged settlements: partition and offset in the payment inbox.
        self._forged_settlements: set[tuple[int, int]] = set()
        #: Latest edit of each campaign, by its id.
        self._edits: dict[str, Campaign] = {}
        self._takers = {
            topics.CAMPAIGNS.name: self._edited,
            topics.GROUP_INBOX.name: self._group_input,
            topics.GROUP_LOG.name: self._group_decision,
            topics.PAYMENT_INBOX.name: self._payment_input,
            topics.PAYMENT_LOG.name: self._payment_decision,
            topics.STOCK_LOG.name: self._stock_decision,
            topics.ALLOWANCE_LOG.name: self._allowance_decision,
        }

    def take(self, record: Record) -> None:
        """Reads one record. Raises Violation."""
        taker = self._takers.get(record.topic, self._take)
        taker(record)

    def _take(self, record: Record) -> None:
        if record.topic in AUDIT_TOPICS:
            self.audit.take(record.topic, (record,))

    def excuses(self, invariant: Invariant, group: str, order: str) -> bool:
        """Whether a fault explains a finding."""
        if (group, order) in self.forged:
            return True
        if not order and invariant is Invariant.ENDS_IN_TIME:
            return self._forged_settlement_failed(group)
        if (group, order) not in self.declined_refunds:
            return False
        # Under rules version 2 a refused refund is owed and pursued, so that nothing is excused.
        case = self.case(group)
        old = case is None or case.group_payments.rules_version < 2
        return old and invariant in (Invariant.HELD_IS_ACCOUNTED_FOR, Invariant.OWED)

    def _forged_settlement_failed(self, group: str) -> bool:
        """Whether only forged orders keep a group open: version 1 of the rules can't settle them."""
        case = self.case(group)
        if case is None or case.group_payments.rules_version > 1 or not case.group_payments.faulted:
            return False
        left = [order for order, seat in case.group.seats.items() if not seat.state.final]
        return bool(left) and all((group, order) in self.forged for order in left)

    # Topics ------------------------------------------------------------------------------------------------------

    def _edited(self, record: Record) -> None:
        self._edits[(record.key or b"").decode()] = Campaign.FromString(record.value or b"")

    def _group_input(self, record: Record) -> None:
        self.inputs += 1
        self._take(record)
        message = GroupInput.FromString(record.value or b"")
        body = message.WhichOneof("body")
        key = (record.key or b"").decode()
        if message.HasField("campaign"):
            campaign = message.campaign
            if campaign != self._edits.get(campaign.name.removeprefix("campaigns/")):
                # The sequencer had not read the edit yet. The terms are those of the campaign beside the order.
                self._counts["fault", "stale campaign"] += 1
        if body == "order_fact":
            fact = OrderFact.FromString(message.order_fact)
            if fact.HasField("placed") and fact.placed.payment_method == DEFECT:
                self._defective.add(key)
                self._counts["fault", "defect in the rules"] += 1
        elif body == "payment_decision" and not message.source.topic:
            # Not copied from a decision: a forged record.
            for event in PaymentDecision.FromString(message.payment_decision).events:
                self.forged.add((key, getattr(event, str(event.WhichOneof("body"))).order))
            self.misled.add(key)

    def _payment_input(self, record: Record) -> None:
        self.inputs += 1
        self._take(record)
        message = PaymentInput.FromString(record.value or b"")
        if message.HasField("group_decision") and not message.source.topic:
            # Not copied from a decision: a forged record.
            decision = GroupDecision.FromString(message.group_decision)
            for event in decision.events:
                kind = event.WhichOneof("body")
                if kind in ("release_requested", "settlement_requested"):
                    self.forged.add((decision.group, getattr(event, kind).order))
                if kind == "settlement_requested":
                    self._forged_settlements.add((record.partition, record.offset))
            self.misled.add(decision.group)

    def _group_decision(self, record: Record) -> None:
        self._decision(record, GroupDecision(), "group", self._defective)

    def _payment_decision(self, record: Record) -> None:
        self._decision(record, PaymentDecision(), "payment", self.misled)

    def _stock_decision(self, record: Record) -> None:
        decision = StockDecision.FromString(record.value or b"")
        self._piece_decision(record, "stock", decision, self.audit.pieces.stock(decision.stock).chain)

    def _allowance_decision(self, record: Record) -> None:
        decision = AllowanceDecision.FromString(record.value or b"")
        self._piece_decision(record, "allowance", decision, self.audit.pieces.allowance(decision.allowance).chain)

    def _piece_decision(self, record: Record, kind: str, decision: Any, chain: Chain) -> None:
        version = chain.version
        self._take(record)
        if chain.version == version:
            return
        for event in decision.events:
            self._counts["event", f"{kind}.{event.WhichOneof('body')}"] += 1

    def _decision(self, record: Record, decision: Any, kind: str, may_fail: set[str]) -> None:
        decision.ParseFromString(record.value or b"")
        key, version = decision.group, self._version(decision)
        self._take(record)
        if self._version(decision) == version:
            return
        if (record.partition, decision.cause) in self._forged_settlements and kind == "payment":
            self._has_alarm(key, decision)
        orders: dict[str, None] = {}
        for event in decision.events:
            name = str(event.WhichOneof("body"))
            self._counts["event", f"{kind}.{name}"] += 1
            body = getattr(event, name)
            about = getattr(body, "call", body)
            if order := getattr(about, "order", ""):
                orders[order] = None
            if name == "faulted" and key not in may_fail:
                raise Violation("rules do not fail", key, f"the rules of a {kind} failed: {body.error}")
            if name == "refund_declined" and not body.refund:
                self._is_declined(key, body)
            elif name == "hold_requested" and key not in self.misled:
                self._has_check(key, body, decision.time_ms)
            elif name == "hold_checked":
                self._is_checked(key, body)
        self.audit.check_orders(key, orders)

    def _version(self, decision: GroupDecision | PaymentDecision) -> int:
        case = self.audit.cases.get(decision.group)
        if case is None:
            return 0
        fold = case.group if isinstance(decision, GroupDecision) else case.group_payments
        return fold.chain.version

    # Settlements that do not fit ----------------------------------------------------------------------------------

    def _has_alarm(self, group: str, decision: PaymentDecision) -> None:
        """A settlement that does not fit its hold is an alarm: no fault of the rules, and no charge."""
        case = self.case(group)
        kinds = {str(event.WhichOneof("body")) for event in decision.events}
        if case is None or case.group_payments.rules_version < 2:
            return
        charged = kinds & {"faulted", "capture_requested", "captured"}
        if charged or ("capture_declined" in kinds and "suspense_recorded" not in kinds):
            raise Violation("mismatches are alarms", group, f"a forged settlement led to {sorted(kinds)}")

    # Checks of holds ----------------------------------------------------------------------------------------------

    def _has_check(self, group: str, event: Any, at_ms: int) -> None:
        """A hold that is old when its group closes is to be checked; no other one is."""
        case = self.case(group)
        if case is None or case.group_payments.rules_version < 2:
            return
        first = case.group_payments.payments[event.call.order].hold_requests == 1
        check_at_ms = case.group.deadline_ms - CHECK_BEFORE_MS
        old = first and event.call.operation == OPERATION_AUTHORISE and check_at_ms - at_ms >= CHECK_HOLDS_AFTER_MS
        wanted = check_at_ms if old else 0
        if event.check_at_ms != wanted:
            what = f"{event.call.order}: its hold is checked at {event.check_at_ms}, not {wanted}"
            raise Violation("old holds are checked", group, what)

    def _is_checked(self, group: str, event: Any) -> None:
        answers = self.checked.get(f"{event.order}:check:{event.attempt}", set())
        if answers and event.ended not in answers:
            raise Violation("old holds are checked", group, f"{event.order}: the answer of its check is not taken")

    # The provider ------------------------------------------------------------------------------------------------

    def _is_declined(self, group: str, event: Any) -> None:
        if event.amount_minor not in self.declined_refunds.get((group, event.order), ()):
            what = f"{event.order}: money that may not be kept was not returned"
            raise Violation("refunds are declined by the provider", group, what)

    def on_refund_declined(self, group: str, call: ProviderCall) -> None:
        """Records that the provider declined a refund finally: the amount stays owed."""
        self.declined_refunds.setdefault((group, call.order), []).append(call.amount_minor)

    def owed(self, order: Order) -> set[int]:
        """Sums that the shop may still owe, since any of the declined refunds may have succeeded later."""
        sums = {0}
        for amount in self.declined_refunds.get(order, ()):
            sums |= {one + amount for one in sums}
        return sums

    def on_capture_at_provider(self, account: Account, amount: int) -> None:
        """Checks a requested capture before it takes effect at the provider. Raises Violation."""
        case = self.case(account.group)
        state = case.group.state if case is not None else GroupState.NONE
        if case is None or state is not GroupState.COMPLETED:
            what = f"{account.order} is charged in a group that is {state.name}"
            raise Violation(TITLES[Invariant.CAPTURE_AFTER_COMPLETION], account.group, what)
        seat = case.group.seats.get(account.order)
        if seat is None or amount != seat.to_settle_minor:
            what = f"{account.order}: {amount} at the provider, not {seat.to_settle_minor if seat else 'a member'}"
            raise Violation(TITLES[Invariant.RIGHT_AMOUNT], account.group, what)

    # The state of the logs, for faults that aim at it ------------------------------------------------------------

    def case(self, group: str) -> Case | None:
        """The records of a group; None before its first record."""
        return self.audit.cases.get(group)

    def status(self, group: str, order: str) -> str:
        """The status of an order in its group, by the names of the group's rules; empty: unknown."""
        case = self.case(group)
        seat = case.group.seats.get(order) if case is not None else None
        if case is None or seat is None:
            return ""
        if seat.state is SeatState.UNKNOWN:
            return "ORPHANED" if seat.release_requested else ""
        if seat.state is SeatState.DECLINED:
            return "CAPTURE_DECLINED" if seat.to_settle_minor >= 0 else "HOLD_DECLINED"
        settling = seat.state is SeatState.CONFIRMED and case.group.state is GroupState.COMPLETED
        return "SETTLING" if settling else seat.state.name

    def payment_method(self, group: str, order: str) -> str:
        """The payment method of a placed order."""
        inputs = self.audit.cases[group].inputs
        return inputs.placed[order].payment_method if inputs is not None else ""

    def orders_in(self, status: str) -> Iterator[Order]:
        """The placed orders in a status."""
        for key, case in self.audit.cases.items():
            if case.inputs is not None:
                yield from ((key, order) for order in case.inputs.placed if self.status(key, order) == status)
