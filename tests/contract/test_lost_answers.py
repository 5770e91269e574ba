"""Calls that are repeated and answers that go missing never move money twice, with every provider. Method: the provider
is told to fail, to be slow, or goes away; then its own books are asked."""

from __future__ import annotations

import asyncio
import time

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from tests.contract.calls import asks, books, hold_of, perform
from tests.contract.conftest import Rig


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
