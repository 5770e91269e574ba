"""What the payments service may rely on with every provider. Method: each test runs over every adapter (conftest.RIGS)
against its provider, and asks the provider's own books where money is concerned."""

from __future__ import annotations

import asyncio
import time

import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from services.payments.providers.base import idempotency_key
from services.payments.providers.registry import Registry, simulated
from services.payments.providers.simulated_adapter import SimulatedProvider
from tests.contract.conftest import Rig

GROUP = "7f3c"


def asks(
    operation: d.Operation.ValueType,
    method: str,
    *,
    order: str = "a",
    attempt: int = 1,
    minor: int = 8900,
    currency: str = "CNY",
    hold: str = "",
) -> ProviderCall:
    return ProviderCall(
        order=order,
        operation=operation,
        attempt=attempt,
        amount_minor=minor,
        currency=currency,
        payment_method=method,
        customer="ann",
        hold=hold,
    )


async def perform(rig: Rig, call: ProviderCall) -> ProviderOutcome:
    outcome = await rig.provider.perform(call, GROUP)
    assert (outcome.order, outcome.operation, outcome.attempt) == (call.order, call.operation, call.attempt)
    assert outcome.origin in {i.OUTCOME_ORIGIN_CALL, i.OUTCOME_ORIGIN_LOOKUP}
    assert not outcome.HasField("absent"), "nothing of what happens here proves absence"
    return outcome


async def hold_of(rig: Rig, method: str, operation: d.Operation.ValueType = d.OPERATION_AUTHORISE) -> str:
    outcome = await perform(rig, asks(operation, method))
    assert outcome.WhichOneof("result") == "authorised"
    return outcome.authorised.hold


async def books(rig: Rig) -> tuple[int, int, int, int, int]:
    """Authorised, captured, released, refunded, open, of the only hold."""
    (entry,) = await rig.statement()
    assert (entry.order, entry.group) == ("a", GROUP)
    return (
        entry.authorised_minor,
        entry.captured_minor,
        entry.released_minor,
        entry.refunded_minor,
        entry.open_minor,
    )


@pytest.mark.parametrize(("currency", "minor"), [("CNY", 8900), ("JPY", 1), ("KWD", 1_234_567), ("EUR", 2**53 + 1)])
async def test_an_authorisation_says_what_is_held_and_until_when(rig: Rig, currency: str, minor: int) -> None:
    asked_ms = time.time_ns() // 1_000_000
    outcome = await perform(rig, asks(d.OPERATION_AUTHORISE, rig.ok, minor=minor, currency=currency))
    assert (outcome.authorised.amount_minor, outcome.authorised.currency) == (minor, currency)
    assert outcome.authorised.capturable_until_ms > asked_ms + 6 * 24 * 3_600_000
    assert await books(rig) == (minor, 0, 0, 0, minor)


async def test_a_capture_takes_a_part_and_lets_the_rest_go(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok)
    outcome = await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=6900))
    assert outcome.captured == i.OutcomeCaptured(hold=hold, amount_minor=6900)
    assert await books(rig) == (8900, 6900, 2000, 0, 0)


async def test_a_hold_is_captured_once(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok)
    await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=6900))
    outcome = await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=6900, attempt=2))
    assert outcome.declined.reason == "already captured"
    assert await books(rig) == (8900, 6900, 2000, 0, 0)


async def test_a_void_lets_all_go(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok)
    outcome = await perform(rig, asks(d.OPERATION_VOID, rig.ok, hold=hold))
    assert outcome.voided.hold == hold
    assert await books(rig) == (8900, 0, 8900, 0, 0)


async def test_a_captured_hold_is_not_voided(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok)
    await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold))
    outcome = await perform(rig, asks(d.OPERATION_VOID, rig.ok, hold=hold))
    assert outcome.declined.reason == "captured"
    assert await books(rig) == (8900, 8900, 0, 0, 0)


async def test_refunds_never_exceed_what_was_captured(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok)
    await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=100))
    refunds = [asks(d.OPERATION_REFUND, rig.ok, hold=hold, minor=60, attempt=attempt) for attempt in (1, 2)]
    outcomes = await asyncio.gather(*(perform(rig, refund) for refund in refunds))
    assert sorted(str(outcome.WhichOneof("result")) for outcome in outcomes) == ["declined", "refunded"]
    assert await books(rig) == (8900, 100, 8800, 60, 0)


async def test_a_sale_takes_at_once_and_gives_a_part_back(rig: Rig) -> None:
    sold = await perform(rig, asks(d.OPERATION_SALE, rig.ok))
    assert (sold.authorised.amount_minor, sold.authorised.capturable_until_ms) == (8900, 0)
    hold = sold.authorised.hold
    outcome = await perform(rig, asks(d.OPERATION_REFUND, rig.ok, hold=hold, minor=2000))
    assert outcome.refunded == i.OutcomeRefunded(hold=hold, amount_minor=2000)
    assert await books(rig) == (8900, 8900, 0, 2000, 0)


async def test_a_refused_card_holds_nothing(rig: Rig) -> None:
    outcome = await perform(rig, asks(d.OPERATION_AUTHORISE, rig.declined))
    assert outcome.declined.reason
    assert await rig.statement() == []


async def test_a_hold_that_can_not_be_captured_can_be_let_go(rig: Rig) -> None:
    hold = await hold_of(rig, rig.declined_at_capture)
    assert (await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold))).declined.reason
    assert await books(rig) == (8900, 0, 0, 0, 8900)
    assert (await perform(rig, asks(d.OPERATION_VOID, rig.ok, hold=hold))).voided.hold == hold


async def test_an_action_is_asked_for_and_after_it_the_same_call_is_authorised(rig: Rig) -> None:
    call = asks(d.OPERATION_AUTHORISE, rig.needs_action)
    asked = (await perform(rig, call)).action_required
    assert asked.hold
    assert asked.action_url.startswith("https://")
    assert await rig.statement() == []
    await rig.confirm(call)
    assert (await perform(rig, call)).authorised.hold == asked.hold
    assert await books(rig) == (8900, 0, 0, 0, 8900)


async def test_an_action_that_nobody_took_can_be_let_go(rig: Rig) -> None:
    asked = (await perform(rig, asks(d.OPERATION_AUTHORISE, rig.needs_action))).action_required
    outcome = await perform(rig, asks(d.OPERATION_VOID, rig.needs_action, hold=asked.hold))
    assert outcome.voided.hold == asked.hold


@pytest.mark.parametrize("operation", [d.OPERATION_CAPTURE, d.OPERATION_VOID])
async def test_a_hold_that_lapsed_is_gone(rig: Rig, operation: d.Operation.ValueType) -> None:
    await rig.behave(pb.Behaviour(hold_life_ms=1))
    hold = await hold_of(rig, rig.ok)
    async with asyncio.timeout(5):
        while (await books(rig))[-1]:
            pass
    assert (await perform(rig, asks(operation, rig.ok, hold=hold))).hold_gone.hold == hold
    assert await books(rig) == (8900, 0, 8900, 0, 0)


@pytest.mark.parametrize("operation", [d.OPERATION_CAPTURE, d.OPERATION_VOID, d.OPERATION_REFUND])
async def test_a_call_on_a_hold_that_does_not_exist_is_declined(rig: Rig, operation: d.Operation.ValueType) -> None:
    assert (await perform(rig, asks(operation, rig.ok, hold="hold_unknown"))).declined.reason


async def test_a_call_that_the_provider_finds_invalid_is_declined(rig: Rig) -> None:
    assert "amount" in (await perform(rig, asks(d.OPERATION_AUTHORISE, rig.ok, minor=0))).declined.reason


async def test_a_call_without_a_known_operation_is_a_defect(rig: Rig) -> None:
    with pytest.raises(ValueError, match="operation"):
        await rig.provider.perform(asks(d.OPERATION_UNSPECIFIED, rig.ok), GROUP)


# The same call, and answers that go missing


async def test_the_same_call_made_many_times_at_once_is_made_once(rig: Rig) -> None:
    outcomes = await asyncio.gather(*(perform(rig, asks(d.OPERATION_AUTHORISE, rig.ok)) for _ in range(20)))
    assert len({outcome.SerializeToString() for outcome in outcomes}) == 1
    assert await books(rig) == (8900, 0, 0, 0, 8900)


async def test_an_answer_lost_after_the_effect_is_looked_up(rig: Rig) -> None:
    await rig.behave(pb.Behaviour(fail_after_per_mille=1000))
    held = await perform(rig, asks(d.OPERATION_AUTHORISE, rig.ok))
    captured = await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=held.authorised.hold, minor=6900))
    assert held.origin == captured.origin == i.OUTCOME_ORIGIN_LOOKUP
    assert captured.captured.amount_minor == 6900
    assert await books(rig) == (8900, 6900, 2000, 0, 0)


async def test_a_failure_that_stays_is_for_later_and_the_same_call_is_good_then(rig: Rig) -> None:
    await rig.behave(pb.Behaviour(fail_before_per_mille=1000))
    call = asks(d.OPERATION_AUTHORISE, rig.ok)
    assert "UNAVAILABLE" in (await perform(rig, call)).retry_later.error
    await rig.behave(pb.Behaviour())
    assert (await perform(rig, call)).authorised.hold


async def test_a_time_out_is_for_later_and_the_money_moves_once(rig: Rig) -> None:
    await rig.behave(pb.Behaviour(latency_min_ms=4000, latency_max_ms=4000))
    call = asks(d.OPERATION_AUTHORISE, rig.ok)
    began = time.monotonic()
    outcome = await perform(rig, call)
    assert time.monotonic() - began < 4, "an adapter gives up in time"
    if outcome.HasField("retry_later"):
        assert "DEADLINE_EXCEEDED" in outcome.retry_later.error
    await rig.behave(pb.Behaviour())
    assert (await perform(rig, call)).authorised.amount_minor == 8900
    assert await books(rig) == (8900, 0, 0, 0, 8900)


async def test_a_provider_that_is_down_is_for_later_and_found_again_when_it_is_back(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok)
    call = asks(d.OPERATION_CAPTURE, rig.ok, hold=hold)
    await rig.go_down()
    outcomes = await asyncio.gather(*(perform(rig, call) for _ in range(5)))
    assert all(outcome.retry_later.error for outcome in outcomes)
    await rig.come_back()
    async with asyncio.timeout(5):
        while (outcome := await perform(rig, call)).HasField("retry_later"):
            pass
    assert outcome.captured.amount_minor == 8900
    assert await books(rig) == (8900, 8900, 0, 0, 0)


async def test_a_key_that_was_used_for_something_else_reports_what_was_done_under_it(rig: Rig) -> None:
    await perform(rig, asks(d.OPERATION_AUTHORISE, rig.ok))
    outcome = await perform(rig, asks(d.OPERATION_AUTHORISE, rig.ok, minor=9900))
    assert (outcome.authorised.amount_minor, outcome.origin) == (8900, i.OUTCOME_ORIGIN_LOOKUP)
    assert await books(rig) == (8900, 0, 0, 0, 8900)


async def test_with_a_third_of_all_answers_lost_every_order_is_held_and_captured_once(rig: Rig) -> None:
    await rig.behave(pb.Behaviour(fail_before_per_mille=150, fail_after_per_mille=150, latency_max_ms=5))

    async def until_known(call: ProviderCall) -> ProviderOutcome:
        async with asyncio.timeout(20):
            while (outcome := await perform(rig, call)).HasField("retry_later"):
                pass
        return outcome

    async def order(name: str) -> None:
        held = await until_known(asks(d.OPERATION_AUTHORISE, rig.ok, order=name))
        hold = held.authorised.hold
        captured = await until_known(asks(d.OPERATION_CAPTURE, rig.ok, order=name, hold=hold, minor=6900))
        assert captured.captured.amount_minor == 6900

    await asyncio.gather(*(order(str(n)) for n in range(100)))
    entries = await rig.statement()
    assert len(entries) == len({entry.order for entry in entries}) == 100
    assert {(one.captured_minor, one.released_minor, one.open_minor, one.captures) for one in entries} == {
        (6900, 2000, 0, 1)
    }


# Names and choice


def test_the_idempotency_key_names_order_operation_and_attempt() -> None:
    assert idempotency_key(asks(d.OPERATION_AUTHORISE, "card_ok")) == "a:authorise:1"
    assert idempotency_key(asks(d.OPERATION_REFUND, "card_ok", attempt=12)) == "a:refund:12"


async def test_the_payment_methods_prefix_chooses_the_provider() -> None:
    cards, rest = SimulatedProvider("127.0.0.1:1"), SimulatedProvider("127.0.0.1:2")
    registry = Registry({"card": cards}, rest)
    assert [registry.provider_for(method) for method in ("card_ok", "cardinal_ok", "wallet_x", "")] == [
        cards,
        rest,
        rest,
        rest,
    ]
    await registry.close()
    everything = simulated("127.0.0.1:1")
    assert {everything.provider_for(method).name for method in ("card_ok", "wallet_ok", "other")} == {"simulated"}
    await everything.close()
