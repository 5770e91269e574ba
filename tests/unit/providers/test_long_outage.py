"""A refund that went through, and whose answer came 25 hours later, is paid out once, though the provider has forgotten
its key by then. Method: the purse's rules, the effects' calling and resolve in virtual time; the provider is a few
lines, honours keys for 24 hours, and keeps books."""

from __future__ import annotations

import asyncio

from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, OUTCOME_ORIGIN_LOOKUP, PaymentInput, ProviderOutcome

from eventlog.processors.effects import Effect
from services.payments.domain.calls import key
from services.payments.domain.model_parts import RefundStatus
from services.payments.domain.view import refund_of
from services.payments.processors.effects import PaymentEffectHandler, PerformsAgain
from services.payments.providers.circuit_breaker import Breaker
from services.payments.providers.port import ResultUnknown, outcome_of
from services.payments.providers.resolve import Limits, resolve
from services.payments.providers.stripe.adapter import StripeProvider
from tests.unit.payments.stories import GROUP, START_MS, Story, authorised, captured, given, refund, reserved, settle
from tests.unit.payments.stories import tick as ticked
from tests.unit.providers.virtual import run

DAY_S = 86_400.0
AWAY_S = 25 * 3_600.0


class Bank:
    """Pays refunds out. Its answers get lost until it is back; its keys are forgotten after a day."""

    name = "bank"

    def __init__(self) -> None:
        self.paid: list[tuple[str, int, float]] = []
        self._keys: dict[str, float] = {}
        self._breaker = Breaker(self.name)

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        return await self._resolve(call, look_first=False)

    async def _resolve(self, call: ProviderCall, *, look_first: bool) -> ProviderOutcome:
        return await resolve(
            call,
            lambda _: self._send(call),
            lambda _: self._look_up(call),
            Limits(),
            self._breaker,
            look_first=look_first,
        )

    async def _send(self, call: ProviderCall) -> ProviderOutcome:
        name = key(call)
        if self.now_s < AWAY_S and self._keys:
            raise ResultUnknown("connection refused")
        if self.now_s - self._keys.get(name, -DAY_S) >= DAY_S:
            self._keys[name] = self.now_s
            self.paid.append((name, call.amount_minor, self.now_s))
        if self.now_s < AWAY_S:
            raise ResultUnknown("the answer was lost")
        return self._said(call, outcome_of(call, OUTCOME_ORIGIN_CALL))

    async def _look_up(self, call: ProviderCall) -> ProviderOutcome | None:
        if self.now_s < AWAY_S:
            raise ResultUnknown("connection refused")
        known = any(name == key(call) for name, _, _ in self.paid)
        return self._said(call, outcome_of(call, OUTCOME_ORIGIN_LOOKUP)) if known else None

    def _said(self, call: ProviderCall, outcome: ProviderOutcome) -> ProviderOutcome:
        outcome.refunded.hold = call.hold
        outcome.refunded.amount_minor = call.amount_minor
        return outcome


class Careful(Bank):
    """An adapter that looks an old call up before it sends it: providers.base.Forgetful."""

    async def perform_again(self, call: ProviderCall, group: str) -> ProviderOutcome:
        return await self._resolve(call, look_first=True)


class Record:
    def __init__(self, decision: PaymentDecision) -> None:
        self.key = decision.group.encode()
        self.value = decision.SerializeToString()


async def refunded_after_an_outage(bank: Bank) -> Story:
    """From the command to the answer, with the log's time beside the clock's."""
    story = given(reserved(), authorised(), settle(100), captured(amount=100))
    calling = PaymentEffectHandler(lambda method: bank, lambda: START_MS + int(bank.now_s * 1000))

    async def told(value: PaymentInput) -> list[Effect[ProviderCall]]:
        story.when(value, after_ms=max(START_MS + int(bank.now_s * 1000) - story.at_ms, 0))
        return list(calling.effects_of(Record(story.last))) if story.last is not None else []

    calls = await told(refund("r1", 60))
    while calls:
        (made,) = calls
        outcome = await calling.perform(GROUP, made.call)
        calls = await told(PaymentInput.FromString(outcome.value))
        due_ms = story.domain.due(story.purse)
        if due_ms is not None:
            await asyncio.sleep((due_ms - START_MS) / 1000 - bank.now_s + 0.01)
            calls = await told(ticked())
    return story


def test_a_refund_whose_answer_came_25_hours_later_is_paid_once() -> None:
    bank = Careful()
    story = run(refunded_after_an_outage(bank))
    found = refund_of(story.purse, "o1", "r1")
    assert found is not None
    assert (found.status, found.amount) == (RefundStatus.DONE, 60)
    assert [(name, amount) for name, amount, _ in bank.paid] == [("o1:refund:1", 60)]
    assert (story.at_ms - START_MS) / 1000 > AWAY_S
    story.when(refund("r2", 60)).then("RefundDeclined r2 60")


def test_without_looking_first_it_would_be_paid_twice() -> None:
    """What the rule above is for: the same outage, and an adapter that trusts a key that was forgotten."""
    bank = Bank()
    run(refunded_after_an_outage(bank))
    assert len(bank.paid) == 2


def test_the_adapter_to_stripe_is_of_the_careful_kind() -> None:
    assert isinstance(StripeProvider("sk_test_x"), PerformsAgain)
