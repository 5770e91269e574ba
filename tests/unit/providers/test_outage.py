"""A provider outage of minutes costs no payment: pending calls wait in the aggregate, the circuit breaker keeps calls
away from the provider, nothing piles up, and all payments settle after its return. Method: the payments' rules, the
effect handler and resolve with its breaker in virtual time; the provider is a small fake with accounts."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field

from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, ProviderOutcome

from chassis.outside.call_errors import ResultUnknown
from chassis.outside.circuit_breaker import BreakerState, CircuitBreaker
from chassis.outside.resolve import RetryPolicy
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.output.provider_calls import idempotency_key
from services.payments.domain.state.model import GroupPayments
from services.payments.processors.effects import PaymentEffectHandler
from services.payments.providers.port import outcome_of, resolve_outcome
from tests.scenarios.group_events import seat_reserved, settlement_requested
from tests.scenarios.inputs import group_decided
from tests.unit.virtual_time import run

GROUPS = 300
ARRIVES_EVERY_S = 0.5
DOWN_S, BACK_S = 20.0, 140.0
START_MS = 1_700_000_000_000


class Flaky:
    """A provider that is down between two times. Its books hold each key once."""

    name = "flaky"

    def __init__(self) -> None:
        self.breaker = CircuitBreaker(self.name)
        self.calls_while_down = 0
        self.in_flight = self.max_in_flight = 0
        self.captured: dict[str, int] = {}
        self.holds: dict[str, int] = {}

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            return await resolve_outcome(call, lambda _: self._send(call), self._look_up, RetryPolicy(), self.breaker)
        finally:
            self.in_flight -= 1

    async def _send(self, call: ProviderCall) -> ProviderOutcome:
        now_s = asyncio.get_running_loop().time()
        if DOWN_S <= now_s < BACK_S:
            self.calls_while_down += 1
            raise ResultUnknown("connection refused")
        await asyncio.sleep(0.02)
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        if call.operation == d.OPERATION_AUTHORISE:
            self.holds[idempotency_key(call)] = call.amount_minor
            outcome.authorised.hold = idempotency_key(call)
            outcome.authorised.amount_minor = call.amount_minor
            outcome.authorised.currency = call.currency
        else:
            assert call.operation == d.OPERATION_CAPTURE
            assert self.captured.setdefault(call.hold, call.amount_minor) == call.amount_minor
            outcome.captured.hold = call.hold
            outcome.captured.amount_minor = call.amount_minor
        return outcome

    async def _look_up(self, timeout_s: float) -> ProviderOutcome | None:
        if DOWN_S <= asyncio.get_running_loop().time() < BACK_S:
            self.calls_while_down += 1
            raise ResultUnknown("connection refused")
        return None


@dataclass
class One:
    """The payments of one group, and the head of their log."""

    group: str
    payments: GroupPayments
    version: int = 0
    previous: bytes = b""
    settled_s: float = 0.0
    ticks: set[int] = field(default_factory=set)


class Record:
    def __init__(self, key: bytes, value: bytes) -> None:
        self.key = key
        self.value = value


class Shop:
    """The decider, the timers and the effects of the payments service, without a broker."""

    def __init__(self, provider: Flaky) -> None:
        self.provider = provider
        self.domain = GroupPaymentsDomain()
        self.calling = PaymentEffectHandler(lambda method: provider, self.now_ms)
        self.timers: list[tuple[int, int, One]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.due = asyncio.Event()

    def now_ms(self) -> int:
        return START_MS + int(asyncio.get_running_loop().time() * 1000)

    def take(self, one: One, value: bytes) -> None:
        """Decides one input and starts the calls that the decision requests."""
        at_ms = self.now_ms()
        events = []
        for event in self.domain.decide(one.payments, self.domain.decode_input(value), at_ms):
            self.domain.evolve(one.payments, event, at_ms)
            events.append(event)
        due_ms = self.domain.due(one.payments)
        if due_ms is not None and due_ms not in one.ticks:
            one.ticks.add(due_ms)
            heapq.heappush(self.timers, (due_ms, id(one), one))
        if not events:
            return
        one.version += 1
        decision = self.domain.encode_decision(one.group, one.version, one.version, at_ms, b"", events)
        self._follow(one, PaymentDecision.FromString(decision))
        for call in self.calling.effects_of(Record(one.group.encode(), decision)):
            task = asyncio.get_running_loop().create_task(self._make(one, call.call))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def _follow(self, one: One, decision: PaymentDecision) -> None:
        """The group's side: each hold is settled."""
        for event in decision.events:
            match event.WhichOneof("body"):
                case "hold_authorised":
                    hold = event.hold_authorised
                    self.later(one, settlement_requested(hold.order, 69, hold.hold))
                case "captured":
                    one.settled_s = asyncio.get_running_loop().time()

    def later(self, one: One, event: GroupEvent) -> None:
        """Delivers a decision of the group in the next turn of the loop."""
        value = group_decided(one.group, event).SerializeToString()
        asyncio.get_running_loop().call_soon(self.take, one, value)

    async def _make(self, one: One, call: ProviderCall) -> None:
        outcome = await self.calling.perform(one.group, call)
        self.take(one, outcome.value)

    async def tick(self) -> None:
        """The timers."""
        while True:
            while self.timers and self.timers[0][0] <= self.now_ms():
                due_ms, _, one = heapq.heappop(self.timers)
                one.ticks.discard(due_ms)
                self.take(one, self.domain.tick(due_ms))
            await asyncio.sleep(0.1)


async def outage() -> tuple[Flaky, list[One]]:
    provider = Flaky()
    shop = Shop(provider)
    ticking = asyncio.create_task(shop.tick())
    ones = []
    for n in range(GROUPS):
        one = One(f"g{n}", shop.domain.initial(f"g{n}"))
        ones.append(one)
        shop.later(one, seat_reserved(f"o{n}", "ann", 89))
        await asyncio.sleep(ARRIVES_EVERY_S)
    loop = asyncio.get_running_loop()
    while not all(one.settled_s for one in ones):
        assert loop.time() < BACK_S + 600, "not settled"
        await asyncio.sleep(0.1)
    ticking.cancel()
    assert not shop.tasks
    assert not shop.timers
    return provider, ones


def test_a_provider_down_for_two_minutes_under_load_costs_nothing() -> None:
    provider, ones = run(outage())
    assert len(provider.captured) == GROUPS
    assert set(provider.captured.values()) == {69}
    assert len(provider.holds) == GROUPS
    # Without the breaker, each call would reach the provider: some thousands.
    assert provider.calls_while_down < 60
    assert provider.max_in_flight < 40
    assert provider.breaker.state is BreakerState.CLOSED
    last_s = max(one.settled_s for one in ones)
    assert last_s - BACK_S < 60, f"settled only {last_s - BACK_S:.0f} s after the provider's return"
