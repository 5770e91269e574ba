"""No input makes payments take, keep or return money wrongly. Method: hypothesis plays the group, a provider and the
clock, rule by rule; results are lost, late and out of order, and old inputs are repeated.

Invariants are checked on totals of the events alone, pick are compared with the provider's accounts at the end.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ops.audit.findings import Findings
from ops.audit.money.group_payments import GroupPaymentsFold
from ops.audit.money.status import status_of
from services.payments.domain.output.provider_calls import calls_of
from services.payments.domain.state.model import Payment
from services.payments.domain.state.status import status
from tests.scenarios.facts import GROUP
from tests.scenarios.payments import PaymentsScenario, name_of, refund, release, reserved, settle, tick
from tests.unit.payments.model_provider import ModelProvider

PRICE = 100
METHODS = {"card": "card_ok", "wallet": "wallet_ok"}
ORDERS = st.sampled_from(tuple(METHODS))
#: Picks one of a list, modulo its length.
PICK = st.integers(0, 999)
#: One bit for each possible fault of a call; most calls have none.
LUCK = st.sampled_from((*(0,) * 8, 1, 2, 3, 4, 6, 8, 16))
#: Inputs within which everything is finished once the faults have ended.
MAX_FINAL_INPUTS = 300
#: Events that may follow a repeated input.
_REPEATABLE = {"CallDeferred"}
_ENDS = {"HoldLapsed", "Voided", "PaymentReleased"}


class Totals:
    """The money of each hold and the events of each order, from the events alone. Amounts in minor units."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.returned: Counter[str] = Counter()
        #: Unexpected funds, until it is known whether they are held or taken.
        self.suspense: Counter[str] = Counter()
        #: Events of each order and of each commanded refund.
        self.seen: Counter[tuple[str, str]] = Counter()
        self.charged: Counter[str] = Counter()
        self.refunded: Counter[str] = Counter()
        #: Pending commanded refunds, by order and id.
        self.commanded: dict[str, Counter[str]] = {order: Counter() for order in METHODS}
        self.holds: dict[str, set[str]] = {order: set() for order in METHODS}
        self.wanted: dict[str, str] = {}
        #: The charge that the group requested.
        self.price: dict[str, int] = {}
        #: The hold that was reported to the group.
        self.member: dict[str, str] = {}

    def add(self, event: Any) -> None:
        """Adds one event."""
        kind = str(event.WhichOneof("body"))
        body = getattr(event, kind)
        order = body.call.order if hasattr(body, "call") else getattr(body, "order", "")
        released = self.seen[order, "payment_released"]
        match kind:
            case "hold_authorised":
                assert not released, "held after its release"
                (self.taken if order == "wallet" else self.held)[body.hold] += body.amount_minor
                self.holds[order].add(body.hold)
                self.member.setdefault(order, body.hold)
            case "capture_requested":
                assert self.wanted[order] == "charge", "captured though released"
                assert body.call.amount_minor <= self.held[body.call.hold]
            case "captured":
                self._captured(order, body)
            case "voided" | "hold_lapsed":
                self.held[body.hold] -= body.amount_minor
            case "suspense_recorded":
                self.suspense[body.hold] += body.amount_minor
                self.holds[order].add(body.hold)
            case "void_requested":
                self.held[body.call.hold] += self.suspense.pop(body.call.hold, 0)
            case "refund_requested":
                self.taken[body.call.hold] += self.suspense.pop(body.call.hold, 0)
                if body.call.refund:
                    self.seen[body.call.refund, kind] += 1
                    self.commanded[order][body.call.refund] = body.call.amount_minor
            case "refunded":
                self.returned[body.hold] += body.amount_minor
                self.refunded[order] += body.amount_minor if body.refund else 0
                self.commanded[order].pop(body.refund, None)
                assert not (body.refund and self.seen[body.refund, kind]), "a command is paid twice"
                self.seen[body.refund, kind] += 1
            case "refund_declined":
                self.commanded[order].pop(body.refund, None)
                self.seen[body.refund, kind] += 1
            case "payment_released":
                assert not any(self.held[hold] for hold in self.holds[order]), "released while money is held"
            case "faulted":
                raise AssertionError(body.error)
        self.seen[order, kind] += 1

    def _captured(self, order: str, body: Any) -> None:
        assert self.wanted[order] == "charge", "captured though released"
        assert body.amount_minor == self.price[order]
        if order == "card":
            assert body.amount_minor + body.released_minor == self.held[body.hold]
            self.held[body.hold] = 0
            self.taken[body.hold] += body.amount_minor
        self.charged[order] += body.amount_minor


class PaymentsMachine(RuleBasedStateMachine):
    """The payments of a group with two orders, and all senders of their inputs."""

    @initialize()
    def two_seats_are_reserved(self) -> None:
        self.scenario = PaymentsScenario()
        self.totals = Totals()
        self.luck = 0
        self.provider = ModelProvider(self._unlucky)
        self.calls: list[ProviderCall] = []
        self.results: list[PaymentInput] = []
        self.past: list[PaymentInput] = []
        self.audit = GroupPaymentsFold(GROUP, Findings())
        for order, method in METHODS.items():
            self.send(reserved(order, PRICE, method))

    def _unlucky(self, per_cent: int) -> bool:
        unlucky, self.luck = bool(self.luck & 1), self.luck >> 1
        return unlucky

    def send(self, given_input: PaymentInput, after_ms: int = 1) -> None:
        self.past.append(given_input)
        self._decide(given_input, after_ms)

    def _decide(self, given_input: PaymentInput, after_ms: int) -> None:
        self.scenario.when(given_input, after_ms=after_ms)
        for event in self.scenario.events:
            self.totals.add(event)
        if self.scenario.last is not None:
            self.calls += calls_of(self.scenario.last)
            self.audit.take(self.scenario.log[-1], self.scenario.last, log_trimmed=False)

    # The group ----------------------------------------------------------------------------------------------------

    @rule(order=ORDERS)
    def a_seat_is_reserved(self, order: str) -> None:
        self.send(reserved(order, PRICE, METHODS[order]))

    def _members(self) -> list[str]:
        return [order for order in self.totals.member if order not in self.totals.wanted]

    @rule(pick=PICK, amount=st.sampled_from((60, PRICE)))
    @precondition(lambda self: self._members())
    def the_group_charges(self, pick: int, amount: int) -> None:
        members = self._members()
        order = members[pick % len(members)]
        self.totals.wanted[order], self.totals.price[order] = "charge", amount
        self.send(settle(amount, order, self.totals.member[order]))

    @rule(order=ORDERS, really=st.sampled_from((*(False,) * 9, True)))
    def the_group_releases(self, order: str, really: bool) -> None:
        if really and self.totals.wanted.setdefault(order, "release") == "release":
            self.send(release(order))

    @rule(order=ORDERS, name=st.sampled_from(("r1", "r2", "r3", "r4")), amount=st.sampled_from((0, 20, 70)))
    @precondition(lambda self: +self.totals.charged)
    def a_refund_is_commanded(self, order: str, name: str, amount: int) -> None:
        refund_id = f"{name} of {order}"
        decided = self.totals.seen[refund_id, "refund_requested"] + self.totals.seen[refund_id, "refund_declined"]
        left = self.totals.charged[order] - self.totals.refunded[order] - sum(self.totals.commanded[order].values())
        self.send(refund(refund_id, amount, order))
        names = [name_of(event) for event in self.scenario.events]
        good = self.totals.wanted.get(order) == "charge" and 0 < (amount or left) <= left
        assert names == ([] if decided else ["RefundRequested"] if good else ["RefundDeclined"])

    # The provider -------------------------------------------------------------------------------------------------

    @rule(pick=PICK, luck=LUCK, twice=st.booleans())
    @precondition(lambda self: self.calls)
    def a_call_is_made(self, pick: int, luck: int, twice: bool) -> None:
        self.luck = luck
        call = self.calls.pop(pick % len(self.calls))
        self.results.append(self.provider.perform(call))
        if twice and luck:
            # The process crashed before it appended the result, so it calls again.
            self.calls.append(call)

    @rule(luck=LUCK)
    @precondition(lambda self: self.calls)
    def all_calls_are_made(self, luck: int) -> None:
        for _ in range(len(self.calls)):
            self.a_call_is_made(0, luck, twice=False)
            self.a_result_arrives(len(self.results) - 1)

    @rule(pick=PICK)
    @precondition(lambda self: self.results)
    def a_result_arrives(self, pick: int) -> None:
        self.send(self.results.pop(pick % len(self.results)))

    @rule(pick=PICK)
    @precondition(lambda self: self.provider.late_reports)
    def a_late_report_arrives(self, pick: int) -> None:
        self.send(self.provider.late_reports.pop(pick % len(self.provider.late_reports)))

    @rule(pick=PICK, again=st.booleans())
    @precondition(lambda self: self.provider.accounts)
    def a_hold_lapses_or_is_made_again(self, pick: int, again: bool) -> None:
        self.luck = 0
        references = list(self.provider.accounts)
        report = self.provider.hold_again if again and pick % 3 == 0 else self.provider.lapse
        given_input = report(references[pick % len(references)])
        self.results += [given_input] if given_input is not None else []

    # Time, and repeated inputs -------------------------------------------------------------------------------------

    @rule(after_ms=st.sampled_from((1, 1_000, 60_000)))
    def time_passes(self, after_ms: int) -> None:
        self.send(tick(), after_ms)

    @rule(pick=PICK)
    @precondition(lambda self: self.past)
    def an_old_input_is_repeated(self, pick: int) -> None:
        at = pick % len(self.past)
        given_input = self.past[at]
        self._decide(given_input, after_ms=0)
        # A repeated input may defer a call again. Only the end of a hold, if it was first reported before the hold
        # itself, has a further effect when it is repeated.
        latest = at == len(self.past) - 1
        names = {name_of(event) for event in self.scenario.events}
        assert names <= (_REPEATABLE if latest or not given_input.HasField("outcome") else _REPEATABLE | _ENDS)

    # Invariants ------------------------------------------------------------------------------------------------

    @invariant()
    def no_money_comes_from_nowhere(self) -> None:
        totals = self.totals
        assert not +totals.suspense
        assert all(amount >= 0 for amount in totals.held.values()), "more released than was held"
        assert all(totals.returned[hold] <= totals.taken[hold] for hold in totals.returned), (
            "more returned than was taken"
        )
        for order in METHODS:
            assert totals.refunded[order] <= totals.charged[order] <= PRICE

    @invariant()
    def an_order_has_one_outcome(self) -> None:
        for order in METHODS:
            ends = [self.totals.seen[order, kind] for kind in ("captured", "capture_declined", "payment_released")]
            assert sum(ends) <= 1
            assert not ends[2] or self.totals.wanted[order] == "release"

    @invariant()
    def the_state_agrees_with_the_events(self) -> None:
        for order, record in self.scenario.state.orders.items():
            assert (record.captured, record.refunded) == (self.totals.charged[order], self.totals.refunded[order])
            if isinstance(record, Payment):
                assert {name: hold.held for name, hold in record.holds.items()} == {
                    name: self.totals.held[name] for name in record.holds
                }

    @invariant()
    def the_audit_derives_the_same_status(self) -> None:
        for order, record in self.scenario.state.orders.items():
            assert status_of(self.audit.payments[order]) == status(record), order

    def teardown(self) -> None:
        """The faults end and all work is done: nothing is held, and the provider's accounts agree with the events."""
        if not hasattr(self, "scenario"):
            return
        self.provider.healthy = True
        while self._members():
            self.the_group_charges(0, 60)
        for order in METHODS:
            self.the_group_releases(order, really=True)
        self._finish()
        for amount in (20, 70, 0):
            for order in METHODS:
                self.a_refund_is_commanded(order, f"last {amount}", amount)
        self._finish()
        self._compare_accounts()

    def _finish(self) -> None:
        for _ in range(MAX_FINAL_INPUTS):
            if not self._next_step():
                return
        raise AssertionError("work is pending for ever")

    def _compare_accounts(self) -> None:
        assert not any(isinstance(one, Payment) for one in self.scenario.state.orders.values())
        for order, wanted in self.totals.wanted.items():
            last = ("captured", "capture_declined") if wanted == "charge" else ("payment_released",)
            assert sum(self.totals.seen[order, kind] for kind in last) == 1, order
        for hold, account in self.provider.accounts.items():
            ours = (self.totals.held[hold], self.totals.taken[hold], self.totals.returned[hold])
            assert ours == (account.held, account.taken, account.refunded), hold
            assert account.held == 0
        for order, record in self.scenario.state.orders.items():
            kept = sum(one.taken - one.refunded for one in self.provider.accounts.values() if one.order == order)
            assert kept == self.totals.charged[order] - self.totals.refunded[order] + record.owed, order
            assert self.provider.refused_refunds or not record.owed

    def _next_step(self) -> bool:
        due_ms = self.scenario.domain.due(self.scenario.state)
        if self.calls:
            self.a_call_is_made(0, 0, twice=False)
        elif self.results:
            self.a_result_arrives(0)
        elif self.provider.late_reports:
            self.a_late_report_arrives(0)
        elif due_ms is not None:
            self.send(tick(), max(due_ms - self.scenario.now_ms, 1))
        else:
            return False
        return True


TestPayments = PaymentsMachine.TestCase
TestPayments.settings = settings(max_examples=80, stateful_step_count=40, deadline=None, derandomize=True)
