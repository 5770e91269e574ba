"""bench-peers: the facts, our domain and the figures; the workers need a broker."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.peers import builds
from bench.peers.__main__ import figures, readers
from bench.peers.facts import FACTS_PER_GROUP, Facts
from bench.peers.messages import VARIABLE, load
from bench.peers.runs import Found
from devstack.kafka import jars
from eventlog.core.aggregate import Aggregate, apply, decide

COUNT = 60_000


@pytest.fixture
def descriptors(tmp_path: Path) -> Path:
    """The compiled messages."""
    return builds.messages(tmp_path)


@pytest.fixture
def ours(descriptors: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our worker's module, which reads the messages when it is imported."""
    monkeypatch.setenv(VARIABLE, str(descriptors))
    return importlib.reload(importlib.import_module("bench.peers.ours"))


def test_the_expected_totals_are_the_sums_of_the_facts(descriptors: Path) -> None:
    fact = load(descriptors)["Fact"]
    facts = Facts(COUNT, fact)
    units: Counter[str] = Counter()
    amounts: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for group, value in facts.records():
        found = fact.FromString(value)
        units[group] += found.units
        amounts[group] += found.amount_minor
        numbers[group] += 1
        assert list(facts.expected[group.encode()][-2:]) == [units[group], amounts[group]]
    assert sum(numbers.values()) == COUNT
    assert max(numbers.values()) == FACTS_PER_GROUP
    assert list(Facts(COUNT, fact).records())[-1] == (group, value)


def test_our_decisions_have_the_expected_totals_and_fold_to_the_same_state(ours: Any, descriptors: Path) -> None:
    messages = load(descriptors)
    read, _ = readers(messages)
    facts = Facts(4_000, messages["Fact"])
    domain = ours.TotalsDomain()
    live: dict[str, Aggregate[Any]] = {}
    folded: dict[str, Aggregate[Any]] = {}
    for offset, (group, value) in enumerate(facts.records()):
        one = live.setdefault(group, Aggregate(group, domain.initial(group)))
        decision = decide(domain, one, value, offset, 1)
        assert decision is not None
        assert read(decision) == (one.version, *facts.expected[group.encode()][-2:])
        copy = folded.setdefault(group, Aggregate(group, domain.initial(group)))
        assert apply(domain, copy, decision, one.version)
    assert folded == live


def test_kafka_streams_has_the_version_of_the_broker() -> None:
    assert f"<kafka.version>{builds.versions()['Kafka Streams']}</kafka.version>" in jars.POM.read_text(
        encoding="utf-8"
    )


def test_ratios_are_medians_of_the_turns() -> None:
    ours = [Found(10, 80.0, 90.0, 12.0, 100, 0), Found(10, 40.0, 60.0, 24.0, 110, 0)]
    streams = [Found(10, 40.0, 180.0, 20.0, 800, 0), Found(10, 40.0, 60.0, 20.0, 700, 3)]
    made = figures({"groupbuy": ours, "Kafka Streams": streams})
    assert made["peer_ratio"] == 1.5
    assert made["peer_ratio_warm"] == 0.75
    assert made["ours_peak_rss_mb"] == 110
    assert made["wrong"] == 3
