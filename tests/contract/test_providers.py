"""The contract of each provider adapter. Method: each test runs with each rig (conftest.RIGS), and compares money with
the provider's own statement."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from tests.contract.calls import GROUP, accounts, accounts_when, call_of, hold_of, perform
from tests.contract.conftest import Rig
from tests.fake_proxy import proxied


def captured(hold: str, minor: int) -> i.OutcomeCaptured:
    return i.OutcomeCaptured(hold=hold, amount_minor=minor, currency="CNY")


@pytest.mark.parametrize("currency", ["CNY", "JPY", "KWD", "EUR"])
async def test_an_authorisation_reports_amount_and_expiry_of_the_hold(holding: Rig, currency: str) -> None:
    rig, minor = holding, holding.amounts[currency]
    sent_ms = time.time_ns() // 1_000_000
    outcome = await perform(rig, call_of(d.OPERATION_AUTHORISE, rig.ok, minor=minor, currency=currency))
    assert (outcome.authorised.amount_minor, outcome.authorised.currency) == (minor, currency)
    assert outcome.authorised.capturable_until_ms > sent_ms + 6 * 24 * 3_600_000
    assert await accounts(rig) == (minor, 0, 0, 0, minor)


async def test_a_partial_capture_releases_the_rest(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    outcome = await perform(rig, call_of(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=6900))
    assert outcome.captured == captured(hold, 6900)
    assert await accounts(rig) == (8900, 6900, 2000, 0, 0)


async def test_a_hold_is_captured_once(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    await perform(rig, call_of(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=6900))
    outcome = await perform(rig, call_of(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=6900, attempt=2))
    # Both are correct: this call did not capture, or the hold is captured.
    assert outcome.declined.reason or outcome.captured == captured(hold, 6900)
    assert await accounts(rig) == (8900, 6900, 2000, 0, 0)


async def test_a_void_releases_the_whole_hold(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    outcome = await perform(rig, call_of(d.OPERATION_VOID, rig.ok, hold=hold))
    assert outcome.voided.hold == hold
    assert await accounts(rig) == (8900, 0, 8900, 0, 0)


async def test_a_captured_hold_is_not_voided(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    await perform(rig, call_of(d.OPERATION_CAPTURE, rig.ok, hold=hold))
    outcome = await perform(rig, call_of(d.OPERATION_VOID, rig.ok, hold=hold))
    assert outcome.declined.reason or outcome.captured == captured(hold, 8900)
    assert await accounts(rig) == (8900, 8900, 0, 0, 0)


async def test_a_check_reads_the_state_of_a_hold_and_moves_no_money(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    check = call_of(d.OPERATION_CHECK, rig.ok, hold=hold)
    held = await perform(rig, check)
    assert (held.operation, held.authorised.hold, held.authorised.amount_minor) == (d.OPERATION_CHECK, hold, 8900)
    assert await accounts(rig) == (8900, 0, 0, 0, 8900)
    await perform(rig, call_of(d.OPERATION_VOID, rig.ok, hold=hold))
    assert (await perform(rig, check)).voided.hold == hold


async def test_a_check_finds_a_captured_hold(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    await perform(rig, call_of(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=6900))
    outcome = await perform(rig, call_of(d.OPERATION_CHECK, rig.ok, hold=hold))
    assert outcome.captured == captured(hold, 6900)


async def test_refunds_do_not_exceed_the_captured_amount(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.ok)
    await perform(rig, call_of(d.OPERATION_CAPTURE, rig.ok, hold=hold, minor=100))
    refunds = [call_of(d.OPERATION_REFUND, rig.ok, hold=hold, minor=60, attempt=attempt) for attempt in (1, 2)]
    outcomes = await asyncio.gather(*(perform(rig, refund) for refund in refunds))
    assert sorted(str(outcome.WhichOneof("result")) for outcome in outcomes) == ["declined", "refunded"]
    assert await accounts(rig) == (8900, 100, 8800, 60, 0)


async def test_a_sale_is_charged_at_once_and_refunded_in_part(rig: Rig) -> None:
    sold = await perform(rig, call_of(d.OPERATION_SALE, rig.ok))
    assert (sold.authorised.amount_minor, sold.authorised.capturable_until_ms) == (8900, 0)
    hold = sold.authorised.hold
    outcome = await perform(rig, call_of(d.OPERATION_REFUND, rig.ok, hold=hold, minor=2000))
    assert outcome.refunded.reference
    expected = i.OutcomeRefunded(hold=hold, amount_minor=2000, currency="CNY", reference=outcome.refunded.reference)
    assert outcome.refunded == expected
    assert await accounts(rig) == (8900, 8900, 0, 2000, 0)


async def test_a_declined_card_holds_nothing(rig: Rig) -> None:
    outcome = await perform(rig, call_of(rig.begin, rig.declined))
    assert outcome.declined.reason
    assert await rig.statement() == []


async def test_a_hold_that_can_not_be_captured_can_be_voided(holding: Rig) -> None:
    rig = holding
    hold = await hold_of(rig, rig.declined_at_capture)
    assert (await perform(rig, call_of(d.OPERATION_CAPTURE, rig.ok, hold=hold))).declined.reason
    assert await accounts(rig) == (8900, 0, 0, 0, 8900)
    assert (await perform(rig, call_of(d.OPERATION_VOID, rig.ok, hold=hold))).voided.hold == hold


async def test_the_same_call_is_authorised_after_the_required_action(rig: Rig) -> None:
    call = call_of(rig.begin, rig.needs_action)
    required = (await perform(rig, call)).action_required
    assert required.hold
    assert required.action_url.startswith(("https://", "weixin://"))
    assert (await perform(rig, call)).action_required == required, "the action URL stays the same"
    assert await rig.statement() == []
    await rig.confirm(call)
    assert (await perform(rig, call)).authorised.hold == required.hold
    assert await accounts(rig) == accounts_when(rig, None)


async def test_a_payment_that_waits_for_an_action_can_be_voided(rig: Rig) -> None:
    required = (await perform(rig, call_of(rig.begin, rig.needs_action))).action_required
    outcome = await perform(rig, call_of(d.OPERATION_VOID, rig.needs_action, hold=required.hold))
    assert outcome.voided.hold == required.hold


@pytest.mark.parametrize("operation", [d.OPERATION_CAPTURE, d.OPERATION_VOID])
async def test_an_expired_hold_is_gone(holding: Rig, operation: d.Operation.ValueType) -> None:
    rig = holding
    await rig.configure(pb.Behaviour(hold_life_ms=1))
    hold = await hold_of(rig, rig.ok)
    async with asyncio.timeout(5):
        while (await accounts(rig))[-1]:
            pass
    assert (await perform(rig, call_of(operation, rig.ok, hold=hold))).hold_gone.hold == hold
    assert await accounts(rig) == (8900, 0, 8900, 0, 0)


@pytest.mark.parametrize("operation", [d.OPERATION_CAPTURE, d.OPERATION_VOID, d.OPERATION_REFUND])
async def test_a_call_on_a_hold_that_the_account_does_not_have_is_no_decline(
    rig: Rig, operation: d.Operation.ValueType
) -> None:
    """A hold that we know of is missing for a wrong key, account or mode: then a whole group would be declined."""
    outcome = await perform(rig, call_of(operation, rig.ok, hold="hold_unknown"))
    if rig.begin == d.OPERATION_SALE and operation == d.OPERATION_CAPTURE:
        assert "can't hold money" in outcome.declined.reason
    else:
        assert outcome.not_possible.error


async def test_an_invalid_call_is_declined(rig: Rig) -> None:
    assert "amount" in (await perform(rig, call_of(rig.begin, rig.ok, minor=0))).declined.reason


async def test_refunds_of_a_sale_do_not_exceed_it(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok, d.OPERATION_SALE)
    refunds = [call_of(d.OPERATION_REFUND, rig.ok, hold=hold, minor=6000, attempt=attempt) for attempt in (1, 2)]
    outcomes = await asyncio.gather(*(perform(rig, refund) for refund in refunds))
    assert sorted(str(outcome.WhichOneof("result")) for outcome in outcomes) == ["declined", "refunded"]
    again = await asyncio.gather(*(perform(rig, refund) for refund in refunds))
    assert [one.WhichOneof("result") for one in again] == [one.WhichOneof("result") for one in outcomes]
    assert await accounts(rig) == (8900, 8900, 0, 6000, 0)


async def test_a_paid_sale_is_not_voided(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok, d.OPERATION_SALE)
    outcome = await perform(rig, call_of(d.OPERATION_VOID, rig.ok, hold=hold))
    assert outcome.declined.reason or outcome.captured == captured(hold, 8900)
    assert await accounts(rig) == (8900, 8900, 0, 0, 0)


@pytest.mark.parametrize("behaviour", [{"decline_amounts_minor": [8900]}, {"decline_above_minor": 8899}])
async def test_a_declined_amount_moves_no_money(rig: Rig, behaviour: dict[str, Any]) -> None:
    await rig.configure(pb.Behaviour(**behaviour))
    assert (await perform(rig, call_of(rig.begin, rig.ok))).declined.reason
    await rig.configure(pb.Behaviour())
    assert (await perform(rig, call_of(rig.begin, rig.ok, order="b"))).authorised.hold


async def test_a_call_without_an_operation_raises(rig: Rig) -> None:
    with pytest.raises(ValueError, match="operation"):
        await rig.provider.perform(call_of(d.OPERATION_UNSPECIFIED, rig.ok), GROUP)


async def test_no_call_to_a_provider_goes_through_a_proxy_of_the_environment(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(monkeypatch) as proxy:
        outcome = await rig.provider.perform(call_of(rig.begin, rig.ok), GROUP)
    assert outcome.WhichOneof("result") != "declined"
    assert proxy.connections == 0
