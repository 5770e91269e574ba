"""Quarantine: a record that can't be processed stops its partition, until a new epoch or a recorded skip."""

from __future__ import annotations

from typing import Any

import pytest
from faust.types import TP

from eventlog.core.errors import Poisoned
from eventlog.processors.base import Batch
from eventlog.processors.guards import quarantine
from tests.unit.chassis.support import eventually
from tests.unit.eventlog.processors.bare_processor import Bare, Outputs, Stream, consuming


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "POLL_INTERVAL_S", 0.01)


class SkipRegistry:
    """A registry of skips that gives one answer to every query."""

    def __init__(self) -> None:
        self.queries: list[tuple[str, int, int, str]] = []
        self.answer: bool | Exception = False

    async def recorded(self, topic: str, partition: int, offset: int, sha256: str) -> bool:
        self.queries.append((topic, partition, offset, sha256))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        return False


def poison_at(*bad: int, raising: bool = False) -> tuple[Any, list[int]]:
    """A `handle` that can't decode these offsets of partition 0, and the offsets that it handled."""
    handled: list[int] = []
    bare: list[Bare] = []

    async def does(batch: Batch) -> Outputs:
        for record in batch.records:
            if batch.partition == 0 and record.offset in bad:
                poisoned = Poisoned.for_record(batch.topic, 0, record.offset, record.value, "planted")
                if raising:
                    raise poisoned
                bare[0].quarantine(poisoned)
                return []
            handled.append(record.offset)
        return []

    does.bare = bare  # type: ignore[attr-defined]
    return does, handled


@pytest.mark.parametrize("raising", [False, True])
async def test_an_undecodable_record_stops_only_its_partition(raising: bool, caplog: pytest.LogCaptureFixture) -> None:
    does, handled = poison_at(11, raising=raising)
    bare = Bare(does)
    does.bare.append(bare)
    stream = Stream()
    end = await consuming(bare, stream, bare._quarantine.watch())
    stream.put(0, 8, 9)
    stream.put(0, 10, 11, 12)
    stream.put(0, 13)
    stream.put(1, 4)
    await eventually(lambda: stream.acknowledged == [(0, 9), (1, 4)])
    await eventually(lambda: bare.consumer.dropped == [10, 13])
    assert handled == [8, 9, 10, 4]
    assert [(p, one.offset) for p, one in bare.quarantined.items()] == [(0, 11)]
    assert bare.consumer.held == [TP("inbox", 0)]
    assert "partition 0 is quarantined: inbox-0 offset 11" in caplog.text
    await end()


@pytest.mark.parametrize(("raising", "again"), [(False, 11), (True, 10)])
async def test_a_recorded_skip_resumes_a_partition_without_the_record(raising: bool, again: int) -> None:
    does, handled = poison_at(11, raising=raising)
    skips = SkipRegistry()
    bare = Bare(does, skips)
    does.bare.append(bare)
    stream = Stream()
    end = await consuming(bare, stream, bare._quarantine.watch())
    stream.put(0, 10, 11, 12)
    stream.put(0, 13)
    await eventually(lambda: len(skips.queries) > 2)
    assert stream.acknowledged == []
    # While the registry can't be read, the quarantine continues.
    skips.answer = OSError("planted")
    queries = len(skips.queries)
    await eventually(lambda: len(skips.queries) > queries + 1)
    assert bare.quarantined
    skips.answer = True
    await eventually(lambda: not bare.quarantined)
    assert skips.queries[0][:3] == ("inbox", 0, 11)
    assert len(skips.queries[0][3]) == 64
    assert bare.skipped_at == [11]
    assert bare.consumer.released == {TP("inbox", 0): again}
    handled.clear()
    # The first batch was fetched before the quarantine ended, so it is dropped.
    stream.put(0, 13)
    stream.put(0, *range(again, 13))
    stream.put(0, 13)
    await eventually(lambda: stream.acknowledged == [(0, 12), (0, 13)])
    assert handled == [offset for offset in range(again, 14) if offset != 11]
    await end()


async def test_a_batch_with_only_a_skipped_record_is_acknowledged() -> None:
    does, handled = poison_at(5)
    skips = SkipRegistry()
    skips.answer = True
    bare = Bare(does, skips)
    does.bare.append(bare)
    stream = Stream()
    end = await consuming(bare, stream, bare._quarantine.watch())
    stream.put(0, 5)
    await eventually(lambda: bare.consumer.released == {TP("inbox", 0): 5})
    stream.put(0, 5)
    await eventually(lambda: stream.acknowledged == [(0, 5)])
    assert handled == []
    await end()


async def test_a_record_of_an_old_epoch_starts_no_quarantine() -> None:
    async def does(batch: Batch) -> Outputs:
        bare.epoch = 2
        bare._new_epoch()
        bare.quarantine(Poisoned.for_record("inbox", 0, 5, b"", "planted"))
        return []

    bare = Bare(does)
    stream = Stream()
    end = await consuming(bare, stream)
    stream.put(0, 5)
    await eventually(lambda: stream.acknowledged == [(0, 5)])
    assert bare.quarantined == {}
    await end()
