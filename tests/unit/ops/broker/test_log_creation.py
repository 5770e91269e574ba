"""`topics create` on a log that exists: it reports another number of partitions at once and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from groupbuy.registry.v1.registry_pb2 import Declared, RegistryRecord

from eventlog.core.errors import TopicsDiffer
from ops.broker import log_creation
from shared_kernel.log_registry import DECLARED, Registry
from shared_kernel.topics import ALL


@pytest.mark.parametrize("declared", [2, None])
async def test_another_number_of_partitions_is_refused_before_anything_is_created(
    declared: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {} if declared is None else {DECLARED: RegistryRecord(declared=Declared(partitions=declared))}

    async def read(kafka: Any) -> Registry:
        return Registry(entries)

    async def counts(kafka: Any, topics: Any) -> dict[str, int]:
        return {topic.name: 2 for topic in ALL}

    async def unexpected(*args: Any, **options: Any) -> Any:
        raise AssertionError("the broker is asked for more, or changed")

    monkeypatch.setattr(log_creation, "read", read)
    monkeypatch.setattr(log_creation, "partition_counts", counts)
    for name in ("create_topics", "find_misplaced_keys", "_cluster_id"):
        monkeypatch.setattr(log_creation, name, unexpected)
    with pytest.raises(TopicsDiffer, match="2 partitions"):
        await log_creation.create_log("h:1", partitions=3, default=64, replication=1, who="test")
