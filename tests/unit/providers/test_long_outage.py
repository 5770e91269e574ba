"""A refund whose answer is lost for 25 hours is paid out once, although its idempotency key has expired by then.
Method: the payments' rules, the effect handler and resolve in virtual time; the provider is a few lines, honours keys
for 24 hours, and keeps books."""

from __future__ import annotations

import asyncio

from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, OUTCOME_ORIGIN_LOOKUP, PaymentInput, ProviderOutcome

from chassis.outside.call_errors import ResultUnknown
from chassis.outside.circuit_breaker import CircuitBreaker
from chassis.outside.resolve import RetryPolicy
from eventlog.core.effect_handler import Effect
from services.payments.api.mapping import refund_of
from services.payments.domain.output.provider_calls import idempotency_key
from services.payments.domain.state.model import RefundStatus
from services.payments.processors.effects import PaymentEffectHandler
from services.payments.providers.port import ExpiringIdempotency, outcome_of, resolve_outcome
from services.payments.providers.stripe.adapter import StripeProvider
from tests.scenarios.facts import GROUP
from tests.scenarios.payments import START_MS, PaymentsScenario, authorised, captured, given, refund, reserved, settle
from tests.scenarios.payments import tick as ticked
from tests.unit.virtual_time import run

DAY_S = 86_400.0
AWAY_S = 25 * 3_600.0


class Bank:
    """Pays refunds out. Its answers are lost until it is back; its keys expire after a day."""

    name = "bank"

    def __init__(self) -> None:
        self.paid: list[tuple[str, int, float]] = []
        self._keys: dict[str, float] = {}
        self._breaker = CircuitBreaker(self.name)

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        return await self._resolve(call, look_first=False)

    async def _resolve(self, call: ProviderCall, *, look_first: bool) -> ProviderOutcome:
        return await resolve_outcome(
            call,
            lambda _: self._send(call),
            lambda _: self._look_up(call),
            RetryPolicy(),
            self._breaker,
            look_first=look_first,
        )

    async def _send(self, call: ProviderCall) -> ProviderOutcome:
        name = idempotency_key(call)
        if self.now_s < AWAY_S and self._keys:
            raise ResultUnknown("connection refused")
        if self.now_s - self._keys.get(name, -DAY_S) >= DAY_S:
            self._keys[name] = self.now_s
            self.paid.append((name, call.amount_minor, self.now_s))
        if self.now_s < AWAY_S:
            raise ResultUnknown("the answer was lost")
        return self._refunded(call, outcome_of(call, OUTCOME_ORIGIN_CALL))

    async def _look_up(self, call: ProviderCall) -> ProviderOutcome | None:
        if self.now_s < AWAY_S:
            raise ResultUnknown("connection refused")
        known = any(name == idempotency_key(call) for name, _, _ in self.paid)
        return self._refunded(call, outcome_of(call, OUTCOME_ORIGIN_LOOKUP)) if known else None

    def _refunded(self, call: ProviderCall, outcome: ProviderOutcome) -> ProviderOutcome:
        outcome.refunded.hold = call.hold
        outcome.refunded.amount_minor = call.amount_minor
        return outcome


class LookingUpBank(Bank):
    """An adapter that looks up an old call before it sends it. See ExpiringIdempotency."""

    async def perform_again(self, call: ProviderCall, group: str) -> ProviderOutcome:
        return await self._resolve(call, look_first=True)


class Record:
    def __init__(self, decision: PaymentDecision) -> None:
        self.key = decision.group.encode()
        self.value = decision.SerializeToString()


async def refunded_after_an_outage(bank: Bank) -> PaymentsScenario:
    """From the command to the answer, with the log's time beside the clock's."""
    scenario = given(reserved(), authorised(), settle(100), captured(amount=100))
    calling = PaymentEffectHandler(lambda method: bank, lambda: START_MS + int(bank.now_s * 1000))

    async def decided(value: PaymentInput) -> list[Effect[ProviderCall]]:
        scenario.when(value, after_ms=max(START_MS + int(bank.now_s * 1000) - scenario.now_ms, 0))
        return list(calling.effects_of(Record(scenario.last))) if scenario.last is not None else []

    calls = await decided(refund("r1", 60))
    while calls:
        (made,) = calls
        outcome = await calling.perform(GROUP, made.call)
        calls = await decided(PaymentInput.FromString(outcome.value))
        due_ms = scenario.domain.due(scenario.state)
        if due_ms is not None:
            await asyncio.sleep((due_ms - START_MS) / 1000 - bank.now_s + 0.01)
            calls = await decided(ticked())
    return scenario


def test_a_refund_whose_answer_came_25_hours_later_is_paid_once() -> None:
    bank = LookingUpBank()
    scenario = run(refunded_after_an_outage(bank))
    found = refund_of(scenario.state, "o1", "r1")
    assert found is not None
    assert (found.status, found.amount) == (RefundStatus.SUCCEEDED, 60)
    assert [(name, amount) for name, amount, _ in bank.paid] == [("o1:refund:1", 60)]
    assert (scenario.now_ms - START_MS) / 1000 > AWAY_S
    scenario.when(refund("r2", 60)).then("RefundDeclined r2 60")


def test_without_a_look_up_first_it_would_be_paid_twice() -> None:
    """The same outage with an adapter that relies on an expired key."""
    bank = Bank()
    run(refunded_after_an_outage(bank))
    assert len(bank.paid) == 2


def test_the_stripe_adapter_looks_up_old_calls() -> None:
    assert isinstance(StripeProvider("sk_test_x"), ExpiringIdempotency)
