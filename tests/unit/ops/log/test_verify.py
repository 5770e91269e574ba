"""Every record type with every kind of fault: each is found and has a way out; a correct log has no findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.log.v1.log_pb2 import Source, Tick
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced
from groupbuy.payments.v1 import decisions_pb2 as p
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from groupbuy.registry.v1.registry_pb2 import Declared, RecordSkipped, RegistryRecord

from eventlog.core.partitioner import partition_of
from eventlog.records.topic_spec import TopicSpec
from ops.log.verify_checks import Chains, Context, Finding, Kind, check, decoders
from shared_kernel.topics import ALL, CAMPAIGNS, GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG, REGISTRY
from tests.unit.ops.scripted_logs import completed_group

PARTITIONS = 4
GROUP = "9f6c1c5e-0000-4000-8000-000000000001"
ENDS = {(spec.name, partition): 1_000 for spec in ALL for partition in range(PARTITIONS)}
CONTEXT = Context(PARTITIONS, ENDS, frozenset(), decoders())
SOURCE = Source(topic=ORDERS.name, partition=partition_of(GROUP, PARTITIONS), offset=7)
FACT = OrderFact(order="o", group=GROUP, customer="c", placed=OrderPlaced(quantity=1, currency="CNY"))
SETTLED = g.GroupEvent(settled=g.GroupSettled())

GOOD: dict[TopicSpec, tuple[str, Any]] = {
    ORDERS: (GROUP, FACT),
    CAMPAIGNS: ("mug", Campaign(name="campaigns/mug", capacity=5)),
    GROUP_INBOX: (GROUP, GroupInput(source=SOURCE, order_fact=FACT.SerializeToString())),
    GROUP_LOG: (
        GROUP,
        g.GroupDecision(group=GROUP, version=1, cause=9, events=[g.GroupEvent(settled=g.GroupSettled(settled=1))]),
    ),
    PAYMENT_INBOX: (GROUP, PaymentInput(tick=Tick(due_ms=1))),
    PAYMENT_LOG: (
        GROUP,
        p.PaymentDecision(group=GROUP, version=1, events=[p.PaymentEvent(captured=p.Captured(amount_minor=1))]),
    ),
    REGISTRY: ("declared", RegistryRecord(declared=Declared(partitions=PARTITIONS))),
}


def record(key: bytes | None, value: bytes | None, partition: int | None = None, headers: Any = ()) -> Any:
    right = partition_of(key.decode(errors="replace"), PARTITIONS) if key is not None else 0
    return SimpleNamespace(
        key=key, value=value, partition=right if partition is None else partition, offset=5, headers=list(headers)
    )


def good(spec: TopicSpec) -> Any:
    key, message = GOOD[spec]
    return record(key.encode(), message.SerializeToString())


def kinds(spec: TopicSpec, one: Any, context: Context = CONTEXT) -> set[Kind]:
    return {finding.kind for finding in check(spec, one, context)}


@pytest.mark.parametrize("spec", GOOD, ids=lambda spec: spec.name)
def test_a_valid_record_has_no_finding(spec: TopicSpec) -> None:
    assert list(check(spec, good(spec), CONTEXT)) == []


@pytest.mark.parametrize("spec", GOOD, ids=lambda spec: spec.name)
def test_every_topic_with_every_fault_of_any_record(spec: TopicSpec) -> None:
    one = good(spec)
    assert Kind.UNDECODABLE in kinds(spec, record(one.key, b"\xff\xff\xff"))
    assert Kind.NO_VALUE in kinds(spec, record(one.key, None))
    assert Kind.NO_KEY in kinds(spec, record(None, one.value))
    assert Kind.BAD_KEY in kinds(spec, record(b"\xff\xfe", one.value))
    assert Kind.WRONG_PARTITION in kinds(spec, record(one.key, one.value, (one.partition + 1) % PARTITIONS))
    assert kinds(spec, record(one.key, one.value, headers=[("h", b"x" * 100_000)])) == {Kind.SIZE}
    assert Kind.SIZE in kinds(spec, record(one.key, b"\xff" * (1 << 20)))
    # A body of a future build: an unknown field.
    if spec is not CAMPAIGNS:
        assert Kind.UNKNOWN in kinds(spec, record(one.key, b"\xfa\x7f\x00")) | kinds(spec, record(one.key, b""))


FOREIGN = "5d7c9f3e-0000-4000-8000-000000000001"


def changed(spec: TopicSpec, **fields: Any) -> Any:
    key, message = GOOD[spec]
    made = type(message)()
    made.CopyFrom(message)
    for name, value in fields.items():
        setattr(made, name, value)
    return record(key.encode(), made.SerializeToString())


def test_a_record_with_another_name_than_its_key_is_found() -> None:
    for spec in (ORDERS, GROUP_LOG, PAYMENT_LOG):
        assert kinds(spec, changed(spec, group=FOREIGN)) == {Kind.FOREIGN}
    assert kinds(CAMPAIGNS, changed(CAMPAIGNS, name="campaigns/jug")) == {Kind.FOREIGN}
    skipped = RegistryRecord(record_skipped=RecordSkipped(topic="t", partition=1, offset=2)).SerializeToString()
    assert kinds(REGISTRY, record(b"declared", skipped)) == {Kind.FOREIGN}


def test_a_future_version_of_the_rules_is_found() -> None:
    opened = g.GroupEvent(opened=g.GroupOpened(terms=g.Terms(rules_version=99)))
    made = g.GroupDecision(group=GROUP, version=1, events=[opened]).SerializeToString()
    assert kinds(GROUP_LOG, record(GROUP.encode(), made)) == {Kind.UNKNOWN}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (CAMPAIGNS, Campaign(name="campaigns/mug", capacity=2_001)),
        (CAMPAIGNS, Campaign(name="campaigns/mug", solo_price_minor=-1)),
        (ORDERS, OrderFact(group=GROUP, placed=OrderPlaced(quantity=10**6))),
        (ORDERS, OrderFact(group=GROUP, placed=OrderPlaced(max_unit_price_minor=2**63 - 1))),
        (GROUP_INBOX, GroupInput(tick=Tick(due_ms=2**62))),
        (GROUP_INBOX, GroupInput(source=Source(topic=ORDERS.name, offset=10**15), order_fact=b"")),
        (GROUP_INBOX, GroupInput(source=Source(topic="nowhere", offset=1), order_fact=b"")),
        (
            GROUP_LOG,
            g.GroupDecision(group=GROUP, version=1, cause=1_000, events=[SETTLED]),
        ),
        (GROUP_LOG, g.GroupDecision(group=GROUP, version=-1, events=[SETTLED])),
        (GROUP_LOG, g.GroupDecision(group=GROUP, version=1, time_ms=2**63 - 1)),
        (
            PAYMENT_LOG,
            p.PaymentDecision(group=GROUP, version=1, events=[p.PaymentEvent(captured=p.Captured(amount_minor=-5))]),
        ),
    ],
)
def test_absurd_numbers_are_found(spec: TopicSpec, message: Any) -> None:
    key = GOOD[spec][0]
    assert Kind.NUMBERS in kinds(spec, record(key.encode(), message.SerializeToString()))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.name)
def test_every_finding_has_a_way_out(spec: TopicSpec, kind: Kind) -> None:
    way = Finding(spec.name, 1, 7, kind, "x").way_out
    assert way
    if "--without" in way:
        assert f"--without {spec.name}:1:7" in way
    if "skip" in way:
        assert f"skip {spec.name} 1 7" in way


def test_a_skip_covers_one_place_and_one_value() -> None:
    bad = record(GROUP.encode(), b"\xff")
    place = (GROUP_LOG.name, bad.partition, bad.offset, sha256(b"\xff").digest())
    skipping = CONTEXT._replace(skipped=frozenset({place}))
    assert skipping.skips(GROUP_LOG, bad)
    assert not skipping.skips(GROUP_LOG, record(GROUP.encode(), b"\xfe"))
    assert not skipping.skips(PAYMENT_LOG, bad)


# Chains -----------------------------------------------------------------------------------------------------------


def decision(key: str, version: int, previous: bytes, cause: int, note: int = 0, time_ms: int = 0) -> bytes:
    return bytes(
        g.GroupDecision(
            group=key,
            version=version,
            previous_sha256=previous,
            cause=cause,
            time_ms=time_ms or version,
            events=[g.GroupEvent(settled=g.GroupSettled(settled=note))],
        ).SerializeToString()
    )


def chain(key: str, length: int) -> list[bytes]:
    made: list[bytes] = []
    for version in range(1, length + 1):
        made.append(decision(key, version, sha256(made[-1]).digest() if made else b"", version))
    return made


def found(values: Iterable[tuple[str, bytes]], most: int = 100) -> tuple[list[tuple[int, Kind]], int]:
    log = [
        SimpleNamespace(key=key.encode(), value=value, partition=0, offset=offset)
        for offset, (key, value) in enumerate(values)
    ]
    chains = Chains(GROUP_LOG, most)
    findings: list[tuple[int, Kind]] = []
    while chains.next_pass():
        findings += [(one.offset, one.kind) for record in log if (one := chains.take(record)) is not None]
    return findings, chains.passes


def test_a_complete_chain_with_duplicates_has_no_finding() -> None:
    log = chain("a", 3)
    assert found([("a", one) for one in (log[0], log[0], log[1], log[0], log[2], log[2])]) == ([], 1)


def test_forks_gaps_broken_chains_and_earlier_causes_are_found_at_their_place() -> None:
    log = chain("a", 4)
    fork = decision("a", 2, sha256(log[0]).digest(), 2, note=9)
    assert found([("a", one) for one in (*log[:2], fork, *log[2:])])[0] == [(2, Kind.FORK)]
    assert found([("a", one) for one in (log[0], log[2], log[3])])[0] == [(1, Kind.GAP)]
    broken = decision("a", 2, b"other", 2)
    assert found([("a", log[0]), ("a", broken)])[0] == [(1, Kind.CHAIN)]
    back = decision("a", 2, sha256(log[0]).digest(), 1)
    assert found([("a", log[0]), ("a", back)])[0] == [(1, Kind.ORDER)]
    assert found([("a", decision("a", 0, b"", 1))])[0] == [(0, Kind.GAP)]
    assert found([("a", decision("a", 2**62, b"", 1))])[0] == [(0, Kind.GAP)]


def test_bounded_memory_misses_no_finding() -> None:
    groups = [str(UUID(int=number)) for number in range(200)]
    values = [(one, value) for one in groups for value in chain(one, 2)]
    bad = [(one, decision(one, 9, b"", 1)) for one in groups[::10]]
    findings, passes = found([*values, *bad], most=10)
    assert passes > 10
    assert sorted(offset for offset, _ in findings) == list(range(len(values), len(values) + len(bad)))
    assert {kind for _, kind in findings} == {Kind.GAP}


def test_the_logs_of_a_story_have_no_finding() -> None:
    logs = completed_group()
    context = Context(1, {(spec.name, 0): 10**6 for spec in ALL}, frozenset(), {})
    for spec, lines in ((ORDERS, logs.facts), (GROUP_LOG, logs.groups), (PAYMENT_LOG, logs.payments)):
        chains = Chains(spec, 10)
        chains.next_pass()
        for line in lines:
            one: Any = replace(line)
            assert list(check(spec, one, context)) == []
            if spec is not ORDERS:
                assert chains.take(one) is None
