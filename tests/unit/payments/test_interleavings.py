"""In any order of inputs, every hold ends, no money is lost or taken twice, and each request has one result.

Method: three orders of one group; a model provider that loses results, declines, lapses holds and holds twice; inputs
that are delivered in any order and repeatedly. Then the faults end, all pending inputs are delivered, and the log is
compared with the provider's accounts, hold by hold.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog.core.aggregate import Aggregate, decide
from services.payments.domain.output.provider_calls import calls_of
from services.payments.domain.state.model import GroupPayments, Payment
from services.payments.processors import codec
from tests.scenarios.facts import GROUP
from tests.scenarios.payments import PaymentsScenario, refund, release, reserved, settle, tick
from tests.unit.payments.model_provider import ModelProvider

METHODS = {"o1": "card_ok", "o2": "card_ok", "o3": "wallet_ok"}
PRICE = 100
STEPS = 80
#: Inputs within which everything is finished once the faults have ended.
MAX_FINAL_INPUTS = 400


class Run:
    """One random run of a group: its requests, the undelivered inputs and the resulting events."""

    def __init__(self, luck: Random) -> None:
        self.luck = luck
        self.scenario = PaymentsScenario()
        self.provider = ModelProvider(lambda per_cent: luck.randrange(100) < per_cent)
        self.calls: list[ProviderCall] = []
        self.inputs: list[PaymentInput] = []
        self.past: list[PaymentInput] = []
        #: By order: the hold that made it a member, and the request of the group.
        self.members: dict[str, str] = {}
        self.wanted: dict[str, str] = {}
        self.events: list[tuple[str, Any]] = []
        self.refund_ids = 0

    # Inputs -----------------------------------------------------------------------------------------------------

    def send(self, received: PaymentInput, after_ms: int = 1) -> None:
        self.past.append(received)
        self.scenario.when(received, after_ms=after_ms)
        if self.scenario.last is None:
            return
        self.calls += calls_of(self.scenario.last)
        for event in self.scenario.events:
            kind = str(event.WhichOneof("body"))
            body = getattr(event, kind)
            assert kind != "faulted", body.error
            self.events.append((kind, body))
            if kind == "hold_authorised" and body.order not in self.wanted:
                self.members[body.order] = body.hold
            if kind == "hold_declined":
                self.wanted.setdefault(body.order, "declined")

    def deliver(self) -> None:
        if self.inputs:
            self.send(self.inputs.pop(self.luck.randrange(len(self.inputs))))

    def call(self) -> None:
        if self.calls:
            made = self.calls.pop(self.luck.randrange(len(self.calls)))
            self.inputs.append(self.provider.perform(made))
            if self.provider.unlucky(10):
                # Made twice: the process crashed before it appended the result.
                self.calls.append(made)

    def repeat(self) -> None:
        if self.past:
            self.inputs.append(self.luck.choice(self.past))

    def notify(self) -> None:
        if self.provider.late_reports:
            self.inputs.append(self.provider.late_reports.pop(self.luck.randrange(len(self.provider.late_reports))))

    def lapse(self) -> None:
        self._inject(self.provider.lapse)

    def hold_again(self) -> None:
        if self.luck.randrange(3) == 0:
            self._inject(self.provider.hold_again)

    def _inject(self, fault: Any) -> None:
        if self.provider.accounts:
            report = fault(self.luck.choice(list(self.provider.accounts)))
            if report is not None:
                self.inputs.append(report)

    def wait(self) -> None:
        self.send(tick(), after_ms=self.luck.choice((1, 1_000, 60_000, 600_000)))

    def join(self) -> None:
        order = self.luck.choice(list(METHODS))
        self.send(reserved(order, PRICE, METHODS[order]))

    def decide_on(self) -> None:
        """The group settles a member, or releases any order."""
        order = self.luck.choice(list(METHODS))
        if order in self.wanted:
            return
        if order in self.members and self.luck.randrange(4):
            self.wanted[order] = "settle"
            self.send(settle(self.luck.choice((60, PRICE)), order, self.members[order]))
        elif order in self.members or self.luck.randrange(4) == 0:
            self.wanted[order] = "release"
            self.send(release(order))

    def refund(self) -> None:
        order = self.luck.choice(list(METHODS))
        if self.wanted.get(order) != "settle" and self.luck.randrange(4):
            return
        self.refund_ids += 1
        self.send(refund(f"r{self.refund_ids}", self.luck.choice((0, 20, 40, 70)), order))

    def finish(self) -> None:
        """The faults end and all pending work is done."""
        self.provider.healthy = True
        for order in METHODS:
            if order not in self.wanted:
                self.wanted[order] = "release"
                self.send(release(order))
        for _ in range(MAX_FINAL_INPUTS):
            due = self.scenario.domain.due(self.scenario.state)
            if self.calls:
                self.call()
            elif self.inputs:
                self.deliver()
            elif self.provider.late_reports:
                self.notify()
            elif due is not None:
                self.send(tick(), after_ms=max(due - self.scenario.now_ms, 1))
            else:
                return
        raise AssertionError("it does not come to rest")

    # Checks --------------------------------------------------------------------------------------------

    def check(self) -> None:
        assert not any(isinstance(one, Payment) for one in self.scenario.state.orders.values())
        self._check_holds()
        self._check_outcomes()
        self._check_money()

    def _check_holds(self) -> None:
        """Every hold has ended, in the log and at the provider, with the same amounts."""
        held, taken, returned = Counter[str](), Counter[str](), Counter[str]()
        suspense: dict[str, int] = {}
        for kind, body in self.events:
            match kind:
                case "hold_authorised":
                    (taken if METHODS[body.order] == "wallet_ok" else held)[body.hold] += body.amount_minor
                case "suspense_recorded":
                    suspense[body.hold] = suspense.get(body.hold, 0) + body.amount_minor
                case "void_requested" if body.call.hold:
                    held[body.call.hold] += suspense.pop(body.call.hold, 0)
                case "refund_requested":
                    taken[body.call.hold] += suspense.pop(body.call.hold, 0)
                    returned[body.call.hold] += 0
                case "captured" if METHODS[body.order] != "wallet_ok":
                    held[body.hold] -= body.amount_minor + body.released_minor
                    taken[body.hold] += body.amount_minor
                case "voided" | "hold_lapsed":
                    held[body.hold] -= body.amount_minor
                case "refunded":
                    returned[body.hold] += body.amount_minor
        assert not suspense
        for reference, account in self.provider.accounts.items():
            assert account.held == 0, f"{reference} is still held at the provider"
            assert held[reference] == 0, f"{reference} is still held in the log"
            assert account.captures <= 1
            assert account.refunded <= account.taken
            assert (taken[reference], returned[reference]) == (account.taken, account.refunded), reference

    def _check_outcomes(self) -> None:
        count = Counter((kind, body.order) for kind, body in self.events if hasattr(body, "order"))
        for order, wanted in self.wanted.items():
            outcomes = count["captured", order] + count["capture_declined", order]
            assert count["payment_released", order] == (wanted == "release"), order
            assert outcomes == (wanted == "settle"), order

    def _check_money(self) -> None:
        """The provider keeps of each order its charge, and the refunds that it declined."""
        for order in METHODS:
            record = self.scenario.state.orders[order]
            kept = sum(one.taken - one.refunded for one in self.provider.accounts.values() if one.order == order)
            assert kept == record.captured - record.refunded + record.owed, order
            assert record.refunded <= record.captured
            if not self.provider.refused_refunds:
                assert record.owed == 0


ACTIONS = (
    *[Run.deliver] * 8,
    *[Run.call] * 8,
    *[Run.join] * 3,
    *[Run.wait] * 2,
    *[Run.decide_on] * 2,
    Run.repeat,
    Run.repeat,
    Run.notify,
    Run.lapse,
    Run.hold_again,
    *[Run.refund] * 2,
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.integers(min_value=0, max_value=2**32))
def test_every_hold_ends_and_every_cent_is_accounted_for(seed: int) -> None:
    run = Run(Random(seed))
    for _ in range(STEPS):
        run.luck.choice(ACTIONS)(run)
    run.finish()
    run.check()


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(min_value=0, max_value=2**32))
def test_a_second_owner_writes_the_same_bytes(seed: int) -> None:
    run = Run(Random(seed))
    for _ in range(STEPS):
        run.luck.choice(ACTIONS)(run)
    run.finish()
    scenario = run.scenario
    other: Aggregate[GroupPayments] = Aggregate(GROUP, scenario.domain.initial(GROUP))
    written = []
    for offset, (value, at_ms) in enumerate(scenario.inputs):
        sealed = decide(scenario.domain, other, value, offset, at_ms)
        other.state = codec.decode(codec.encode(other.state))
        written += [sealed] if sealed is not None else []
    assert written == scenario.log
