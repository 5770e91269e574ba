"""The headers of a dead letter name its source, and the original record can't forge them."""

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


def test_dlq_headers_of_the_original_record_are_not_copied() -> None:
    made = dead_letter_headers("orders.order.v1", 3, record(headers=[*FORGED, ("ce_id", b"a")]), "no fact")
    assert made == [
        ("ce_id", b"a"),
        ("dlq-origin-topic", b"orders.order.v1"),
        ("dlq-origin-partition", b"3"),
        ("dlq-origin-offset", b"5"),
        ("dlq-error", b"no fact"),
    ]


def test_the_last_dlq_header_of_a_name_counts() -> None:
    kept = [*FORGED, ("dlq-origin-offset", b"5")]
    assert dlq_header([("dlq-origin-offset", b"9"), *kept], "dlq-origin-offset") == "5"
    assert dlq_header(kept, "dlq-anything") is None


class FakeOutput:
    def __init__(self) -> None:
        self.appended: list[Any] = []

    def append(self, key: bytes | None, value: bytes, headers: Any, mark: object = None) -> None:
        self.appended.append((key, value, headers))


@pytest.mark.parametrize(
    "original",
    [
        record(b"x" * (1 << 20)),
        record(key=b"k" * (1 << 20)),
        record(headers=[("h", b"x" * (1 << 20))]),
        record(b"x" * (1 << 20), b"k" * (1 << 20), [("h" * 100_000, b"x" * (1 << 20))]),
    ],
    ids=["value", "key", "headers", "all"],
)
def test_a_record_of_the_maximum_size_fits_into_a_dead_letter(original: Any) -> None:
    dead: Any = FakeOutput()
    send_to_dlq(dead, {}, "t", 0, original, "too large")
    ((key, value, headers),) = dead.appended
    assert value == original.value[:VALUE_BYTES]
    size = len(key or b"") + len(value) + sum(len(name) + len(one) for name, one in headers)
    assert size <= VALUE_BYTES + KEY_BYTES + HEADER_BYTES + 2_000 < RECORD_BYTES
    truncated = len(original.value) > VALUE_BYTES or len(original.key) > KEY_BYTES
    expected = f"{len(original.value)} {sha256(original.value).hexdigest()}" if truncated else None
    assert dlq_header(headers, TRUNCATED) == expected


def test_an_error_that_quotes_the_record_stays_one_printable_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    dead: Any = FakeOutput()
    send_to_dlq(dead, {}, "t", 0, record(), "an OrderFact of group 'x'\n2026 all is well\x1b[2J\u202e")
    (line,) = [one.getMessage() for one in caplog.records if one.name == dead_letters.log.name]
    assert line.isascii()
    assert line.isprintable()
