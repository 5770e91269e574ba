"""What the payments service may rely on with every provider. Method: each test runs over every adapter (conftest.RIGS)
against its provider, and asks the provider's own books where money is concerned."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from tests.contract.calls import GROUP, asks, books, books_when, hold_of, perform
from tests.contract.conftest import Rig


@pytest.mark.parametrize("currency", ["CNY", "JPY", "KWD", "EUR"])
async def test_an_authorisation_says_what_is_held_and_until_when(holding: Rig, currency: str) -> None:
    rig, minor = holding, holding.amounts[currency]
    asked_ms = time.time_ns() // 1_000_000
    outcome = await perform(rig, asks(d.OPERATION_AUTHORISE, rig.ok, minor=minor, currency=currency))
    assert (outcome.authorised.amount_minor, outcome.authorised.currency) == (minor, currency)
    assert outcome.authorised.capturable_until_ms > asked_ms + 6 * 24 * 3_600_000
    assert await books(rig) == (minor, 0, 0, 0, minor)


async def test_a_capture_takes_a_part_and_lets_the_rest_go(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    outcome = await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=6900))
    assert outcome.captured == i.OutcomeCaptured(hold=hold, amount_minor=6900)
    assert await books(rig) == (8900, 6900, 2000, 0, 0)


async def test_a_hold_is_captured_once(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=6900))
    outcome = await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=6900, attempt=2))
    # Either is true: that this call did not do it, or what was taken.
    assert outcome.declined.reason or outcome.captured == i.OutcomeCaptured(hold=hold, amount_minor=6900)
    assert await books(rig) == (8900, 6900, 2000, 0, 0)


async def test_a_void_lets_all_go(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    outcome = await perform(rig, asks(d.OPERATION_VOID, rig.ok, hold=hold))
    assert outcome.voided.hold == hold
    assert await books(rig) == (8900, 0, 8900, 0, 0)


async def test_a_captured_hold_is_not_voided(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold))
    outcome = await perform(rig, asks(d.OPERATION_VOID, rig.ok, hold=hold))
    assert outcome.declined.reason or outcome.captured == i.OutcomeCaptured(hold=hold, amount_minor=8900)
    assert await books(rig) == (8900, 8900, 0, 0, 0)


async def test_refunds_never_exceed_what_was_captured(holding: Rig) -> None:
    rig = holding
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
    outcome = await perform(rig, asks(rig.asking, rig.declined))
    assert outcome.declined.reason
    assert await rig.statement() == []


async def test_a_hold_that_can_not_be_captured_can_be_let_go(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.declined_at_capture)
    assert (await perform(rig, asks(d.OPERATION_CAPTURE, rig.ok, hold=hold))).declined.reason
    assert await books(rig) == (8900, 0, 0, 0, 8900)
    assert (await perform(rig, asks(d.OPERATION_VOID, rig.ok, hold=hold))).voided.hold == hold


async def test_an_action_is_asked_for_and_after_it_the_same_call_is_authorised(rig: Rig) -> None:
    call = asks(rig.asking, rig.needs_action)
    asked = (await perform(rig, call)).action_required
    assert asked.hold
    assert asked.action_url.startswith(("https://", "weixin://"))
    assert (await perform(rig, call)).action_required == asked, "a shopper under way is sent nowhere else"
    assert await rig.statement() == []
    await rig.confirm(call)
    assert (await perform(rig, call)).authorised.hold == asked.hold
    assert await books(rig) == books_when(rig, None)


async def test_an_action_that_nobody_took_can_be_let_go(rig: Rig) -> None:
    asked = (await perform(rig, asks(rig.asking, rig.needs_action))).action_required
    outcome = await perform(rig, asks(d.OPERATION_VOID, rig.needs_action, hold=asked.hold))
    assert outcome.voided.hold == asked.hold


@pytest.mark.parametrize("operation", [d.OPERATION_CAPTURE, d.OPERATION_VOID])
async def test_a_hold_that_lapsed_is_gone(holding: Rig, operation: d.Operation.ValueType) -> None:
    rig = holding
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
    assert "amount" in (await perform(rig, asks(rig.asking, rig.ok, minor=0))).declined.reason


async def test_refunds_of_a_sale_never_exceed_it(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok, d.OPERATION_SALE)
    refunds = [asks(d.OPERATION_REFUND, rig.ok, hold=hold, minor=6000, attempt=attempt) for attempt in (1, 2)]
    outcomes = await asyncio.gather(*(perform(rig, refund) for refund in refunds))
    assert sorted(str(outcome.WhichOneof("result")) for outcome in outcomes) == ["declined", "refunded"]
    again = await asyncio.gather(*(perform(rig, refund) for refund in refunds))
    assert [one.WhichOneof("result") for one in again] == [one.WhichOneof("result") for one in outcomes]
    assert await books(rig) == (8900, 8900, 0, 6000, 0)


async def test_a_sale_that_was_paid_is_not_called_off(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok, d.OPERATION_SALE)
    outcome = await perform(rig, asks(d.OPERATION_VOID, rig.ok, hold=hold))
    assert outcome.declined.reason or outcome.captured == i.OutcomeCaptured(hold=hold, amount_minor=8900)
    assert await books(rig) == (8900, 8900, 0, 0, 0)


@pytest.mark.parametrize("behaviour", [{"decline_amounts_minor": [8900]}, {"decline_above_minor": 8899}])
async def test_an_amount_that_is_refused_moves_nothing(rig: Rig, behaviour: dict[str, Any]) -> None:
    await rig.behave(pb.Behaviour(**behaviour))
    assert (await perform(rig, asks(rig.asking, rig.ok))).declined.reason
    await rig.behave(pb.Behaviour())
    assert (await perform(rig, asks(rig.asking, rig.ok, order="b"))).authorised.hold


async def test_a_call_without_a_known_operation_is_a_defect(rig: Rig) -> None:
    with pytest.raises(ValueError, match="operation"):
        await rig.provider.perform(asks(d.OPERATION_UNSPECIFIED, rig.ok), GROUP)
