"""Retries and lost answers move no money twice, with each provider. Method: the provider is configured to fail or to be
slow, or is stopped; then its statement is read."""

from __future__ import annotations

import asyncio
import time

import pytest
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from tests.contract.calls import accounts, accounts_when, call_of, hold_of, moved, perform, settling_call
from tests.contract.conftest import Rig
from tests.waiting import moment


async def test_concurrent_duplicates_of_a_call_take_effect_once(rig: Rig) -> None:
    outcomes = await asyncio.gather(*(perform(rig, call_of(rig.begin, rig.ok)) for _ in range(20)))
    assert len({outcome.authorised.SerializeToString() for outcome in outcomes}) == 1
    assert await accounts(rig) == accounts_when(rig, None)


async def test_an_answer_lost_after_the_effect_is_looked_up(rig: Rig) -> None:
    await rig.configure(pb.Behaviour(fail_after_per_mille=1000))
    held = await perform(rig, call_of(rig.begin, rig.ok))
    call = settling_call(rig, held.authorised.hold, 6900)
    settled = await perform(rig, call)
    assert held.origin == settled.origin == i.OUTCOME_ORIGIN_LOOKUP
    assert moved(settled) == call.amount_minor
    assert await accounts(rig) == accounts_when(rig, 6900)


async def test_a_lasting_failure_is_retried_later_with_the_same_call(rig: Rig) -> None:
    await rig.configure(pb.Behaviour(fail_before_per_mille=1000))
    call = call_of(rig.begin, rig.ok)
    assert (await perform(rig, call)).retry_later.error
    await rig.configure(pb.Behaviour())
    assert (await perform(rig, call)).authorised.hold


async def test_a_time_out_is_retried_later_and_the_money_moves_once(rig: Rig) -> None:
    await rig.configure(pb.Behaviour(latency_min_ms=4000, latency_max_ms=4000))
    call = call_of(rig.begin, rig.ok)
    began = time.monotonic()
    outcome = await perform(rig, call)
    assert time.monotonic() - began < 4, "an adapter returns within its budget"
    assert outcome.HasField("retry_later") or outcome.authorised.hold
    await rig.configure(pb.Behaviour())
    assert (await perform(rig, call)).authorised.amount_minor == 8900
    assert await accounts(rig) == accounts_when(rig, None)


async def test_calls_during_an_outage_are_retried_after_the_provider_is_back(rig: Rig) -> None:
    hold = await hold_of(rig, rig.ok)
    call = settling_call(rig, hold, 6900)
    await rig.go_down()
    outcomes = await asyncio.gather(*(perform(rig, call) for _ in range(5)))
    assert all(outcome.retry_later.error for outcome in outcomes)
    await rig.come_back()
    assert moved(await until_known(rig, call)) == call.amount_minor
    assert await accounts(rig) == accounts_when(rig, 6900)


async def test_a_reused_key_reports_the_first_effect(rig: Rig) -> None:
    await perform(rig, call_of(rig.begin, rig.ok))
    outcome = await perform(rig, call_of(rig.begin, rig.ok, minor=9900))
    assert (outcome.authorised.amount_minor, outcome.origin) == (8900, i.OUTCOME_ORIGIN_LOOKUP)
    assert await accounts(rig) == accounts_when(rig, None)


async def test_with_a_third_of_all_answers_lost_each_order_is_held_and_captured_once(rig: Rig) -> None:
    await rig.configure(pb.Behaviour(fail_before_per_mille=150, fail_after_per_mille=150, latency_max_ms=5))

    async def order(name: str) -> None:
        held = await until_known(rig, call_of(rig.begin, rig.ok, order=name))
        hold = held.authorised.hold
        call = settling_call(rig, hold, 6900, order=name)
        assert moved(await until_known(rig, call)) == call.amount_minor

    await asyncio.gather(*(order(str(n)) for n in range(60)))
    entries = await rig.statement()
    assert len(entries) == len({entry.order for entry in entries}) == 60
    charged = {(one.captured_minor - one.refunded_minor, one.open_minor, one.captures) for one in entries}
    assert charged == {(6900, 0, 1)}


@pytest.mark.parametrize("effect", ["before", "after"])
async def test_a_call_without_an_answer_is_retried_later_and_the_money_moves_once(rig: Rig, effect: str) -> None:
    before = 1000 if effect == "before" else 0
    await rig.configure(pb.Behaviour(timeout_before_per_mille=before, timeout_after_per_mille=1000))
    call = call_of(rig.begin, rig.ok)
    outcome = await perform(rig, call)
    assert outcome.HasField("retry_later") == (effect == "before") or outcome.authorised.hold
    await rig.configure(pb.Behaviour())
    assert (await perform(rig, call)).authorised.amount_minor == 8900
    assert await accounts(rig) == accounts_when(rig, None)


async def test_a_rate_limited_call_is_retried_and_then_retried_later(rig: Rig) -> None:
    await rig.configure(pb.Behaviour(limited_per_mille=1000))
    call = call_of(rig.begin, rig.ok)
    assert (await perform(rig, call)).retry_later.error
    await rig.configure(pb.Behaviour(limited_per_mille=300, seed=7))
    assert (await until_known(rig, call)).authorised.amount_minor == 8900


async def until_known(rig: Rig, call: ProviderCall) -> ProviderOutcome:
    """Retries a call, after the delay of each RETRY_LATER, until its result is known."""
    async with asyncio.timeout(60):
        while True:
            outcome = await perform(rig, call)
            if not outcome.HasField("retry_later"):
                return outcome
            await moment(max(outcome.retry_later.after_ms / 1000, 0.05))
