"""Decides whole inboxes again from their beginning, and compares the decisions byte by byte."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import Any

from eventlog.core.aggregate import Domain
from eventlog.core.partition_state import PartitionState
from eventlog.records.codec import Codec
from services.groups.processors import codec as of_groups
from services.inventory.processors import codec as of_inventory
from services.payments.processors import codec as payments_codec
from shared_kernel import topics
from tests.simulation.audit.violation import Violation
from tests.simulation.world.broker import Broker, Record
from tests.simulation.world.checkpoints import CheckpointStore

#: Decider -> (inbox, log)
LOGS = {
    topics.GROUPS_DECIDER: (topics.GROUP_INBOX.name, topics.GROUP_LOG.name),
    topics.PAYMENTS_DECIDER: (topics.PAYMENT_INBOX.name, topics.PAYMENT_LOG.name),
    topics.INVENTORY_STOCK_DECIDER: (topics.STOCK_INBOX.name, topics.STOCK_LOG.name),
    topics.INVENTORY_ALLOWANCE_DECIDER: (topics.ALLOWANCE_INBOX.name, topics.ALLOWANCE_LOG.name),
}
#: Decider -> the codec of its states.
CODECS: dict[str, Codec[Any]] = {
    topics.GROUPS_DECIDER: Codec("", of_groups.encode, of_groups.decode),
    topics.PAYMENTS_DECIDER: Codec("", payments_codec.encode, payments_codec.decode),
    topics.INVENTORY_STOCK_DECIDER: of_inventory.STOCK,
    topics.INVENTORY_ALLOWANCE_DECIDER: of_inventory.ALLOWANCE,
}


def check_replay(broker: Broker, domains: dict[str, Domain[Any]], chance: Random) -> None:
    """Decides the inboxes again and compares with the logs. Raises Violation."""
    partitions = {partition for _, partition in broker.logs}
    for reader, (inbox, log) in LOGS.items():
        for partition in sorted(partitions):
            written = distinct(broker.logs[log, partition])
            decided = decide_anew(domains[reader], broker.logs[inbox, partition], partition, CODECS[reader])
            for key in sorted(written.keys() | decided.keys()):
                if written.get(key) != decided.get(key):
                    mine, theirs = len(decided.get(key, [])), len(written.get(key, []))
                    raise Violation(
                        "a replay gives the log", key, f"{log}: {theirs} decisions in the log, {mine} in the replay"
                    )


def distinct(log: list[Record]) -> dict[str, list[bytes]]:
    """Decisions by key, without duplicates. Other checks compare the bytes of duplicates."""
    found: dict[str, list[bytes]] = {}
    seen: set[bytes] = set()
    for record in log:
        value = record.value or b""
        if value not in seen:
            seen.add(value)
            found.setdefault((record.key or b"").decode(), []).append(value)
    return found


def decide_anew(
    domain: Domain[Any], inbox: list[Record], partition: int, codec: Codec[Any] | None = None
) -> dict[str, list[bytes]]:
    """The decisions of one owner of a whole inbox, by key.

    With a codec, every state is encoded and decoded before the next input.
    """
    states = CheckpointStore(None, codec) if codec is not None else None
    state: PartitionState[Any] = PartitionState(domain, partition, states)
    found: dict[str, list[bytes]] = {}
    for record in inbox:
        decision = state.decide(record)
        if decision is not None:
            found.setdefault((record.key or b"").decode(), []).append(decision)
            if states is not None and state.last_decided is not None:
                states.thaw(state.last_decided)
    return found


def digest(decisions: dict[str, list[bytes]]) -> bytes:
    """One digest of all decisions."""
    whole = sha256()
    for key in sorted(decisions):
        for value in decisions[key]:
            whole.update(key.encode() + value)
    return whole.digest()
