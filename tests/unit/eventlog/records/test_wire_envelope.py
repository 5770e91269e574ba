"""Wrapped bytes equal protobuf's own serialisation, headers are CloudEvents, and partitions are those of Kafka."""

from __future__ import annotations

import subprocess
import sys

from aiokafka.partitioner import murmur2
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.log.v1.log_pb2 import Source
from hypothesis import given
from hypothesis import strategies as st

from eventlog.core.partitioner import partition_of
from eventlog.records.envelope import HeaderTemplate, header, headers, headers_of_copy, rfc3339
from eventlog.records.wire import BytesField, SourceField


@given(fact=st.binary(max_size=20_000), partition=st.integers(0, 300), offset=st.integers(0, 2**62))
def test_wrapped_bytes_are_those_of_the_serialised_message(fact: bytes, partition: int, offset: int) -> None:
    message = GroupInput(source=Source(topic="t", partition=partition, offset=offset), order_fact=fact)
    assert SourceField(1, "t", partition).of(offset) + BytesField(2).of(fact) == message.SerializeToString()


def test_headers_are_cloud_events_in_binary_mode() -> None:
    made = headers("k:1", "groupbuy.T", "/groups", 1_700_000_000_123, "groups/g", {"traceparent": "00-1"})
    assert header(made, "ce_time") == "2023-11-14T22:13:20.123Z"
    assert header(made, "ce_subject") == "groups/g"
    assert header(made, "traceparent") == "00-1"
    assert header(made, "missing") is None
    assert made == headers("k:1", "groupbuy.T", "/groups", 1_700_000_000_123, "groups/g", {"traceparent": "00-1"})
    assert rfc3339(7) == "1970-01-01T00:00:00.007Z"


def test_a_copy_has_the_id_the_trace_and_unknown_headers_of_its_source() -> None:
    kept = {"traceparent": "00-1", "groupbuy-campaign": "mug", "later": "x"}
    made = headers("k:1", "groupbuy.T", "/groups", 1_700_000_000_123, "groups/g", kept)
    assert headers_of_copy(made) == [
        ("ce_id", b"k:1"),
        ("ce_subject", b"groups/g"),
        ("traceparent", b"00-1"),
        ("groupbuy-campaign", b"mug"),
        ("later", b"x"),
    ]


def test_a_header_template_gives_the_same_headers() -> None:
    template = HeaderTemplate("groupbuy.T", "/groups")
    for time_ms in (1_700_000_000_123, 1_700_000_000_123, 1_700_000_000_124, 5):
        assert template.headers("k:1", time_ms) == headers("k:1", "groupbuy.T", "/groups", time_ms)


def test_partitions_match_the_test_vectors_of_kafka() -> None:
    # From Kafka's own Utils.murmur2 test vectors: murmur2("21") = -973932308, murmur2("foobar") = -790332482.
    assert partition_of("21", 1_000_003) == (-973932308 & 0x7FFFFFFF) % 1_000_003
    assert partition_of("foobar", 64) == (-790332482 & 0x7FFFFFFF) % 64


@given(st.text(max_size=40), st.integers(1, 1_000))
def test_partitions_match_those_of_aiokafka(key: str, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def test_abort_ends_the_process_with_code_70_and_reports_the_context() -> None:
    code = "from eventlog.runtime.abort import abort\n"
    code += "try: 1/0\nexcept Exception as e: abort('it broke', e, topic='t', offset=3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "it broke topic=t offset=3" in done.stderr
    assert "ZeroDivisionError" in done.stderr
