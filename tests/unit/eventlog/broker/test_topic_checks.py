"""Checks of partition counts and of the retention of committed offsets."""

from __future__ import annotations

import pytest

from eventlog.broker.topic_checks import OffsetsRetention, common_partition_count
from eventlog.core.errors import TopicsDiffer
from eventlog.records.topic_spec import DAY_MS


def test_the_error_names_only_the_topics_with_a_wrong_number_of_partitions() -> None:
    counts = {"a": 2, "b": 3, "c": 2}
    with pytest.raises(TopicsDiffer, match=r"^b has 3 partitions: 2 were declared\. Kafka can't remove partitions\."):
        common_partition_count(counts, 2)
    with pytest.raises(TopicsDiffer, match="none was declared: a has 2 partitions; b has 3 partitions; c has 2"):
        common_partition_count(counts, None)
    assert common_partition_count({"a": 2, "c": 2}, None) == 2
    with pytest.raises(TopicsDiffer, match="a has 1 partition: 2 were declared"):
        common_partition_count({"a": 1}, 2)


def test_offsets_must_be_kept_as_long_as_the_records_that_a_group_reads() -> None:
    assert OffsetsRetention(90 * DAY_MS, 90 * DAY_MS).problem == ""
    problem = OffsetsRetention(7 * DAY_MS, 90 * DAY_MS).problem
    assert "empty for 7 days" in problem
    assert "set offsets.retention.minutes=129600 or more" in problem
