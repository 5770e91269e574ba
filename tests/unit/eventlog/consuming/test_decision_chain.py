"""Readers without state verify the chains of decisions, also across a restart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from eventlog.consuming import decision_chain
from eventlog.consuming.decision_chain import BrokenChain, Chain, Chains
from eventlog.core.partition_state import PartitionState
from tests.unit.eventlog.counting import Counting, add, record

LOG = TP("log", 0)
DOMAIN = Counting()


def decided(count: int, what: int = 1) -> list[Any]:
    live = PartitionState(DOMAIN, 0)
    return [record(n, live.decide(record(n, add(what, f"{what}-{n}")))) for n in range(count)]


def take(chain: Chain, one: Any) -> bool:
    follows = chain.follows(one, DOMAIN.decode_decision(one.value))
    if follows:
        chain.remember(one)
    return follows


async def chain_after(monkeypatch: pytest.MonkeyPatch, before: list[Any]) -> Chain:
    async def _before(*_: Any) -> list[Any]:
        return before

    monkeypatch.setattr(decision_chain, "_read_before", _before)
    return await Chains("nowhere:1").begin(1, LOG, len(before), DOMAIN.decode_decision)


async def test_a_decision_follows_its_predecessor_and_a_duplicate_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = await chain_after(monkeypatch, [])
    records = decided(4)
    assert [take(chain, one) for one in [*records, *records]] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("restarted", [False, True])
async def test_forks_gaps_and_broken_chains_are_detected_also_after_a_restart(
    restarted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = decided(4), decided(4, what=2)
    for bad, why in ((theirs[1], "two different"), (ours[3], "jumps"), (theirs[2], "is broken")):
        chain = await chain_after(monkeypatch, ours[:2] if restarted else [])
        if not restarted:
            assert all(take(chain, one) for one in ours[:2])
        with pytest.raises(BrokenChain, match=why):
            take(chain, bad)
        # The bad decision is not remembered, so the right one follows.
        assert take(chain, ours[2])


async def test_impossible_numbers_break_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = await chain_after(monkeypatch, [])
    good = {"version": 1, "cause": 0, "time_ms": 1, "previous_sha256": b"", "events": []}
    for wrong in ({"version": 0}, {"version": -(2**63)}, {"cause": -1}, {"time_ms": 2**63 - 1}, {"time_ms": -1}):
        with pytest.raises(BrokenChain):
            chain.follows(record(0, b"x"), SimpleNamespace(**good | wrong))


async def test_the_number_of_remembered_decisions_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_chain, "MAX_REMEMBERED", 2)
    chain = await chain_after(monkeypatch, [])
    one = decided(1)[0]
    for number in range(9):
        assert take(chain, record(number, one.value, key=b"k%d" % number))
    assert len(chain) <= 4


async def test_a_batch_of_an_older_epoch_does_not_change_the_chain_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def _before(*_: Any) -> list[Any]:
        return []

    monkeypatch.setattr(decision_chain, "_read_before", _before)
    made = Chains("nowhere:1")
    older = await made.begin(1, LOG, 0, DOMAIN.decode_decision)
    assert await made.begin(1, LOG, 0, DOMAIN.decode_decision) is older
    one = decided(1)[0]
    # Another partition starts the next epoch while this batch is still handled.
    await made.begin(2, TP("log", 1), 0, DOMAIN.decode_decision)
    assert take(older, one)
    # The batch was not acknowledged, so it is read again, and its calls are made.
    assert take(await made.begin(2, LOG, 0, DOMAIN.decode_decision), one)


async def test_a_late_duplicate_of_a_forgotten_key_is_not_a_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = decided(4)
    chain = await chain_after(monkeypatch, [])
    # A frozen process writes its decisions again after a long time, when they are no longer remembered here.
    assert take(chain, ours[1])
    assert take(chain, ours[3])
    assert not take(chain, ours[2])
    with pytest.raises(BrokenChain, match="two different"):
        take(chain, decided(4, what=2)[3])
