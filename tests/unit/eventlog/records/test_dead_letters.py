"""A dead letter says where it came from, and the writer of the record has no say in it."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest

from eventlog.producing.batch_output import RECORD_BYTES
from eventlog.records import dead_letters
from eventlog.records.dead_letters import (
    HEADER_BYTES,
    KEY_BYTES,
    TRUNCATED,
    VALUE_BYTES,
    dead_letter_headers,
    dlq_header,
    send_to_dlq,
)

FORGED = [
    ("dlq-origin-topic", b"payments.inbox.v1"),
    ("DLQ-Origin-Offset", b"7"),
    ("dlq-redriven-from", b"x/0/1"),
    ("dlq-anything", None),
]


def record(value: bytes = b"junk", key: bytes | None = b"k", headers: Any = ()) -> Any:
    return SimpleNamespace(offset=5, key=key, value=value, headers=list(headers))


def test_headers_that_only_we_set_are_not_taken_from_the_record() -> None:
    made = dead_letter_headers("orders.order.v1", 3, record(headers=[*FORGED, ("ce_id", b"a")]), "no fact")
    assert made == [
        ("ce_id", b"a"),
        ("dlq-origin-topic", b"orders.order.v1"),
        ("dlq-origin-partition", b"3"),
        ("dlq-origin-offset", b"5"),
        ("dlq-error", b"no fact"),
    ]


def test_the_last_header_is_ours_where_an_older_build_kept_the_writers() -> None:
    kept = [*FORGED, ("dlq-origin-offset", b"5")]
    assert dlq_header([("dlq-origin-offset", b"9"), *kept], "dlq-origin-offset") == "5"
    assert dlq_header(kept, "dlq-anything") is None


class Dead:
    def __init__(self) -> None:
        self.taken: list[Any] = []

    def append(self, key: bytes | None, value: bytes, headers: Any, mark: object = None) -> None:
        self.taken.append((key, value, headers))


@pytest.mark.parametrize(
    "poison",
    [
        record(b"x" * (1 << 20)),
        record(key=b"k" * (1 << 20)),
        record(headers=[("h", b"x" * (1 << 20))]),
        record(b"x" * (1 << 20), b"k" * (1 << 20), [("h" * 100_000, b"x" * (1 << 20))]),
    ],
    ids=["value", "key", "headers", "all"],
)
def test_a_record_as_large_as_the_broker_takes_is_buried_and_ends_no_process(poison: Any) -> None:
    dead: Any = Dead()
    send_to_dlq(dead, {}, "t", 0, poison, "too large")
    ((key, value, headers),) = dead.taken
    assert value == poison.value[:VALUE_BYTES]
    size = len(key or b"") + len(value) + sum(len(name) + len(one) for name, one in headers)
    assert size <= VALUE_BYTES + KEY_BYTES + HEADER_BYTES + 2_000 < RECORD_BYTES
    cut = len(poison.value) > VALUE_BYTES or len(poison.key) > KEY_BYTES
    said = f"{len(poison.value)} {sha256(poison.value).hexdigest()}" if cut else None
    assert dlq_header(headers, TRUNCATED) == said


def test_what_the_record_says_forges_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    dead: Any = Dead()
    send_to_dlq(dead, {}, "t", 0, record(), "an OrderFact of group 'x'\n2026 all is well\x1b[2J\u202e")
    (line,) = [one.getMessage() for one in caplog.records if one.name == dead_letters.log.name]
    assert line.isascii()
    assert line.isprintable()
