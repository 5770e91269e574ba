"""The whole system without processes: the production rules and the provider's ledger under a simulated clock.

The seed decides which inputs arrive late or twice and which calls are delayed. The result is the content of all topics.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1.decisions_pb2 import (
    OPERATION_AUTHORISE,
    OPERATION_CAPTURE,
    OPERATION_SALE,
    OPERATION_VOID,
    PaymentDecision,
    ProviderCall,
)
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, PaymentInput, ProviderOutcome, RefundCommand
from groupbuy.simprovider.v1 import simprovider_pb2 as sim

from eventlog.core.aggregate import Aggregate, decide
from ops.demo.plan import Evening, Party, Role, Visit, plan
from services.groups.domain.domain import GroupDomain
from services.orders.domain.ids import group_id, order_id
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.output.provider_calls import calls_of, idempotency_key
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG
from simulators.psp.accounts.account_book import AccountBook
from simulators.psp.accounts.holds import Refusal
from tests.scenarios.facts import cancel_requested, digest_of, placed
from tests.unit.ops.scripted_logs import Line

START_MS = 1_700_000_000_000
REPEATED = 0.05
PUT_OFF = 0.03
REFUNDED = 0.05


@dataclass(slots=True)
class Side:
    """One inbox with its decision log and aggregates."""

    domain: Any
    inbox: str
    log: str
    aggregates: dict[str, Aggregate[Any]] = field(default_factory=dict)


class SimulatedSystem:
    """An evening of the demo, in one thread and one partition."""

    def __init__(self, orders: int, seed: int, directory: Path, hold_life_ms: int = 0) -> None:
        self.random = Random(seed)
        self.now_ms = START_MS
        self.topics: dict[str, list[Line]] = {
            spec.name: [] for spec in (ORDERS, GROUP_INBOX, GROUP_LOG, PAYMENT_INBOX, PAYMENT_LOG)
        }
        self.ledger = AccountBook(directory / f"books-{seed}.sqlite", lambda: self.now_ms, hold_life_ms)
        self._groups = Side(GroupDomain(), GROUP_INBOX.name, GROUP_LOG.name)
        self._payments = Side(GroupPaymentsDomain(), PAYMENT_INBOX.name, PAYMENT_LOG.name)
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self.evening: Evening = plan(orders, seed)
        for party in self.evening.parties:
            self._plan_party(party)

    def run(self) -> None:
        """Runs until no event is left."""
        while self._due:
            at_ms, _, action = heapq.heappop(self._due)
            self.now_ms = max(self.now_ms, at_ms)
            action()

    def entries(self) -> list[sim.StatementEntry]:
        """The provider's statement."""
        return list(self.ledger.statement())

    def later(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Schedules a call after so many milliseconds."""
        heapq.heappush(self._due, (self.now_ms + round(delay_ms), next(self._numbers), action))

    # Shoppers ---------------------------------------------------------------------------------------------------------

    def _plan_party(self, party: Party) -> None:
        leader = party.visits[0]
        group = group_id(leader.customer, leader.request_id)
        campaign = party.offer.campaign()
        campaign.name = f"campaigns/{party.offer.id}"
        campaign.rules_version = campaign.revision = 1
        for visit in party.visits:
            for _ in range(visit.copies):
                self.later(
                    visit.at_s * 1000 + self.random.random() * 5, self._place_later(party, visit, group, campaign)
                )
            if visit.cancels_at_s is not None:
                self.later(visit.cancels_at_s * 1000, self._cancel_later(visit, group))

    def _place_later(self, party: Party, visit: Visit, group: str, campaign: Campaign) -> Callable[[], None]:
        offer, solo = party.offer, visit.role is Role.SOLO
        fact = placed(
            order_id(group, visit.customer, visit.request_id),
            group=group,
            customer=visit.customer,
            campaign=offer.id,
            opens_group=visit.role is not Role.JOINS,
            solo=solo,
            quantity=visit.quantity,
            currency=offer.currency,
            max_unit_price_minor=offer.solo_price_minor if solo else offer.entry_price_minor,
            payment_method=visit.payment_method,
            request_id=visit.request_id,
            request_sha256=digest_of(visit.request_id),
        )
        return lambda: self._append_fact(fact, campaign if fact.placed.opens_group else None)

    def _cancel_later(self, visit: Visit, group: str) -> Callable[[], None]:
        order = order_id(group, visit.customer, visit.request_id)
        fact = cancel_requested(order, group=group, customer=visit.customer, request_id=visit.request_id)
        return lambda: self._append_fact(fact, None)

    def _append_fact(self, fact: OrderFact, campaign: Campaign | None) -> None:
        value = fact.SerializeToString()
        self._append(ORDERS.name, fact.group, value)
        made = GroupInput(order_fact=value, campaign=campaign)
        self._deliver(self._groups, fact.group, made.SerializeToString())

    # Deciders ---------------------------------------------------------------------------------------------------------

    def _append(self, topic: str, name: str, value: bytes) -> Line:
        line = Line(len(self.topics[topic]), value, name.encode())
        line.timestamp = self.now_ms
        self.topics[topic].append(line)
        return line

    def _deliver(self, side: Side, name: str, value: bytes) -> None:
        """Delivers a record to an inbox after a short time, and sometimes a duplicate much later."""
        self.later(self.random.random() * 3, lambda: self._decide(side, name, value))
        if self.random.random() < REPEATED:
            self.later(self.random.random() * 20_000, lambda: self._decide(side, name, value))

    def _decide(self, side: Side, name: str, value: bytes) -> None:
        record = self._append(side.inbox, name, value)
        aggregate = side.aggregates.get(name)
        if aggregate is None:
            aggregate = side.aggregates[name] = Aggregate(name, side.domain.initial(name))
        sealed = decide(side.domain, aggregate, value, record.offset, self.now_ms)
        if sealed is None:
            return
        self._append(side.log, name, sealed)
        if self.random.random() < REPEATED:
            # A duplicate, as another owner of the partition writes it.
            self._append(side.log, name, sealed)
        if side is self._groups:
            self._deliver(self._payments, name, PaymentInput(group_decision=sealed).SerializeToString())
        else:
            self._deliver(self._groups, name, GroupInput(payment_decision=sealed).SerializeToString())
            self._perform_all(name, sealed)
        self._tick_when_due(side, name, aggregate)

    def _tick_when_due(self, side: Side, name: str, aggregate: Aggregate[Any]) -> None:
        due_ms = side.domain.due(aggregate.state)
        if due_ms is not None:
            tick = side.domain.tick(due_ms)
            self.later(max(0, due_ms - self.now_ms) + 1, lambda: self._decide_if_due(side, name, tick))

    def _decide_if_due(self, side: Side, name: str, tick: bytes) -> None:
        due_ms = side.domain.due(side.aggregates[name].state)
        if due_ms is not None and due_ms <= self.now_ms:
            self._decide(side, name, tick)

    # The provider -----------------------------------------------------------------------------------------------------

    def _perform_all(self, group: str, sealed: bytes) -> None:
        decision = PaymentDecision.FromString(sealed)
        for call in calls_of(decision):
            self.later(self.random.uniform(5, 40), lambda call=call: self._perform(group, call))  # type: ignore[misc]
        for event in decision.events:
            if event.WhichOneof("body") == "captured" and self.random.random() < REFUNDED:
                command = RefundCommand(order=event.captured.order, refund=f"refund-{event.captured.order}")
                value = PaymentInput(refund=command).SerializeToString()
                self.later(self.random.random() * 1000, lambda value=value: self._decide(self._payments, group, value))  # type: ignore[misc]

    def _perform(self, group: str, call: ProviderCall) -> None:
        outcome = ProviderOutcome(
            order=call.order, operation=call.operation, attempt=call.attempt, origin=OUTCOME_ORIGIN_CALL
        )
        # An unknown result, before or after the call took effect.
        chance = self.random.random()
        if chance >= PUT_OFF:
            self._fill(outcome, self.ledger.apply([_request(call, group)])[0])
        if chance < 2 * PUT_OFF:
            outcome.retry_later.error = "no answer"
        self._deliver(self._payments, group, PaymentInput(outcome=outcome).SerializeToString())

    def _fill(self, outcome: ProviderOutcome, result: sim.CallResult | Refusal) -> None:
        if isinstance(result, Refusal):
            outcome.declined.reason = str(result)
            return
        match result.status:
            case sim.STATUS_AUTHORISED:
                made = outcome.authorised
                made.hold, made.amount_minor, made.currency = result.hold, result.amount_minor, result.currency
                made.capturable_until_ms = result.capturable_until_ms
            case sim.STATUS_CAPTURED:
                outcome.captured.hold, outcome.captured.amount_minor = result.hold, result.amount_minor
            case sim.STATUS_VOIDED:
                outcome.voided.hold = result.hold
            case sim.STATUS_REFUNDED:
                outcome.refunded.hold, outcome.refunded.amount_minor = result.hold, result.amount_minor
            case sim.STATUS_HOLD_GONE:
                outcome.hold_gone.hold = result.hold
            case _:
                outcome.declined.reason = result.reason


def _request(call: ProviderCall, group: str) -> Any:
    amount = call.amount_minor
    if call.operation in {OPERATION_AUTHORISE, OPERATION_SALE}:
        return sim.AuthoriseRequest(
            key=idempotency_key(call),
            order=call.order,
            group=group,
            payment_method=call.payment_method,
            amount_minor=amount,
            currency=call.currency,
            sale=call.operation == OPERATION_SALE,
        )
    if call.operation == OPERATION_CAPTURE:
        return sim.CaptureRequest(key=idempotency_key(call), hold=call.hold, amount_minor=amount)
    if call.operation == OPERATION_VOID:
        return sim.VoidRequest(key=idempotency_key(call), hold=call.hold)
    return sim.RefundRequest(key=idempotency_key(call), hold=call.hold, amount_minor=amount)
