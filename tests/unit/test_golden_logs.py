"""This build decides recorded inboxes to the bytes of older builds, with any owner and any batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eventlog.core.partition_state import PartitionState
from services.groups.domain.domain import GroupDomain
from services.groups.domain.terms import RULES_VERSIONS, SUPPLY_RULES_VERSION
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.rules_version import FIRST, KNOWN
from shared_kernel import topics
from tests.golden import payments
from tests.golden.logs import Logs, files, read
from tests.golden.record import events, every_event
from tests.simulation.histories.replay import CODECS, LOGS, decide_anew, digest, distinct
from tests.simulation.world.broker import Record

DOMAINS: dict[str, Any] = {topics.GROUPS_DECIDER: GroupDomain(), topics.PAYMENTS_DECIDER: GroupPaymentsDomain()}
#: Decides an inbox; gives the decisions by key.
Owner = Callable[[Any, Sequence[Record], int], dict[str, list[bytes]]]


def one_owner(domain: Any, inbox: Sequence[Record], partition: int) -> dict[str, list[bytes]]:
    return decide_anew(domain, list(inbox), partition)


def from_a_directory(domain: Any, inbox: Sequence[Record], partition: int) -> dict[str, list[bytes]]:
    """Every state is encoded and decoded between two inputs."""
    (reader,) = [name for name, one in DOMAINS.items() if one is domain]
    return decide_anew(domain, list(inbox), partition, CODECS[reader])


def in_batches(domain: Any, inbox: Sequence[Record], partition: int) -> dict[str, list[bytes]]:
    """Batches of any length, some fetched twice, as after a rebalance."""
    state, chance = PartitionState(domain, partition), Random(7)
    state.next_input = 0
    found: dict[str, list[bytes]] = {}
    at = 0
    while at < len(inbox):
        end = at + chance.randint(1, 40)
        for record in state.undecided(inbox[max(0, at - chance.randint(0, 9)) : end]):
            _keep(found, record, state.decide(record))
            state.next_input = record.offset + 1
        at = end
    return found


def by_two_owners_in_turn(domain: Any, inbox: Sequence[Record], partition: int) -> dict[str, list[bytes]]:
    """Each folds what the other has written, then goes on from an input that was decided already."""
    chance = Random(11)
    found: dict[str, list[bytes]] = {}
    log: list[Record] = []
    at = 0
    while at < len(inbox):
        state: PartitionState[Any] = PartitionState(domain, partition)
        for record in log:
            state.apply(record)
        end = at + chance.randint(20, 120)
        for record in inbox[max(0, at - 15) : end]:
            decision = state.decide(record)
            _keep(found, record, decision)
            if decision is not None:
                log.append(Record("log", partition, len(log), record.timestamp, record.key or b"", decision, ()))
        at = end
    return found


def _keep(found: dict[str, list[bytes]], record: Record, decision: bytes | None) -> None:
    if decision is not None:
        found.setdefault((record.key or b"").decode(), []).append(decision)


def histories() -> list[tuple[Path, int]]:
    return [(path, index) for path in files() for index in range(len(read(path)))]


def test_every_version_of_the_rules_has_its_golden_logs() -> None:
    # Those of groups with stock are read by test_golden_stock_logs.py. The first ones of groups have those of payments.
    of_groups = {f"rules-{version}.jsonl.gz" for version in RULES_VERSIONS - {SUPPLY_RULES_VERSION}}
    of_payments = {f"payments-rules-{version}.jsonl.gz" for version in KNOWN - {FIRST}}
    assert {path.name for path in files()} == of_groups | of_payments


def test_every_event_is_in_the_golden_logs() -> None:
    found: set[str] = set()
    for path in files():
        for logs in read(path):
            found |= events(logs)
    assert found >= every_event()


def test_every_event_and_every_repair_is_in_several_golden_logs_of_payments() -> None:
    kept = read(payments.PATH)
    counts = Counter(one for logs in kept for one in payments.has(logs))
    assert payments.missing(counts) == []
    assert all(payments.of_version(logs) for logs in kept)


@pytest.mark.parametrize("owner", [one_owner, from_a_directory, in_batches, by_two_owners_in_turn])
@pytest.mark.parametrize(("path", "index"), histories())
def test_a_golden_inbox_is_decided_as_it_was(path: Path, index: int, owner: Owner) -> None:
    logs: Logs = read(path)[index]
    compared = 0
    for reader, (inbox, log) in LOGS.items():
        for (topic, partition), records in logs.items():
            if topic == inbox:
                written = distinct(logs.get((log, partition), []))
                decided = owner(DOMAINS[reader], records, partition)
                assert decided == written
                assert digest(decided) == digest(written)
                compared += sum(map(len, written.values()))
    assert compared > 40


def test_a_decision_that_differs_by_one_bit_is_noticed() -> None:
    logs = read(files()[0])[0]
    inbox, log = LOGS[topics.GROUPS_DECIDER]
    (partition, records) = next((p, r) for (topic, p), r in logs.items() if topic == inbox)
    written = distinct(logs[log, partition])
    key = next(iter(written))
    last = written[key][-1]
    written[key][-1] = last[:-1] + bytes((last[-1] ^ 1,))
    decided = one_owner(DOMAINS[topics.GROUPS_DECIDER], records, partition)
    assert decided != written
    assert digest(decided) != digest(written)
