"""The registry topic: the declared number of partitions, skips and redriven dead letters."""

from __future__ import annotations

import pytest
from groupbuy.registry.v1.registry_pb2 import Declared, OffsetsRecovered, RecordSkipped, Redriven, RegistryRecord

from eventlog.core.errors import TopicsDiffer
from shared_kernel.log_registry import DECLARED, Registry, redriven_key, skip_of


def declaring(partitions: int) -> bytes:
    return RegistryRecord(declared=Declared(partitions=partitions)).SerializeToString()


def test_the_first_declared_number_of_partitions_counts() -> None:
    registry = Registry()
    assert registry.declared is None
    registry.take(DECLARED, declaring(2))
    registry.take(DECLARED, declaring(2))
    assert registry.declared is not None
    assert registry.declared.partitions == 2
    with pytest.raises(TopicsDiffer, match="declares both 2 and 3 partitions"):
        registry.take(DECLARED, declaring(3))


def test_entries_are_found_by_their_subject() -> None:
    registry = Registry()
    done = Redriven(topic="t.dlq", partition=1, up_to=7, sending_to=7)
    registry.take(redriven_key("t.dlq", 1), RegistryRecord(redriven=done).SerializeToString())
    assert registry.redriven("t.dlq", 1) == done
    assert registry.redriven("t.dlq", 0).up_to == 0
    skipped = RecordSkipped(topic="inbox", partition=1, offset=9, sha256=b"\x01\x02")
    value = RegistryRecord(record_skipped=skipped).SerializeToString()
    registry.take("skipped/inbox/1/9", value)
    assert registry.skipped == {("inbox", 1, 9, b"\x01\x02")}
    assert skip_of(value) == ("inbox", 1, 9, "0102")
    assert skip_of(declaring(2)) is None


def test_an_entry_under_another_key_is_ignored() -> None:
    registry = Registry()
    registry.take(DECLARED, declaring(2))
    skipped = RegistryRecord(record_skipped=RecordSkipped(topic="inbox", partition=1, offset=9)).SerializeToString()
    recovered = RegistryRecord(offsets_recovered=OffsetsRecovered(group="g")).SerializeToString()
    foreign = [
        (DECLARED, None),
        (DECLARED, b"\xff"),
        (DECLARED, b""),
        (DECLARED, skipped),
        ("skipped/inbox/1/8", skipped),
        ("recovered/h/1", recovered),
        ("anything", declaring(3)),
    ]
    for key, value in foreign:
        registry.take(key, value)
    assert registry.declared == Declared(partitions=2)
    assert registry.skipped == set()
    assert len(registry.ignored) == len(foreign)
    registry.take("recovered/g/17", recovered)
    assert "recovered/g/17" in registry.records
