"""Dead letters: records that could not be decoded, with their raw bytes, and their source and the error in headers.

A dead-letter topic is named after the source topic and the service that sent the record there, and a dead letter keeps
the partition of its record. Headers `dlq-*` are set by that service; those of the original record are not copied. A
record that is too large for a dead letter is truncated, and a header holds its full length and digest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Protocol

log = logging.getLogger(__name__)

#: Prefix of the headers that only the sender of a dead letter sets.
DLQ_PREFIX = "dlq-"
ORIGIN_TOPIC = "dlq-origin-topic"
ORIGIN_PARTITION = "dlq-origin-partition"
ORIGIN_OFFSET = "dlq-origin-offset"
ERROR = "dlq-error"
#: `{length} {sha256}` of the whole value, if the dead letter holds only its beginning.
TRUNCATED = "dlq-cut"
#: Maximum bytes of a dead letter's value, key and copied headers. Together they fit into one batch.
VALUE_BYTES, KEY_BYTES, HEADER_BYTES = 768 * 1024, 16 * 1024, 64 * 1024


class Undecodable(Exception):
    """A record can't be decoded. It goes to the dead-letter topic, and the processor continues."""


class DeadLetterOutput(Protocol):
    """Output to one partition of a dead-letter topic."""

    def append(self, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """Appends one record."""
        ...


def send_to_dlq(
    dead: DeadLetterOutput, counts: dict[str, int], topic: str, partition: int, record: Any, error: str
) -> None:
    """Appends a record that can't be decoded to `dead`, counts it by its topic, and logs it."""
    counts[topic] = counts.get(topic, 0) + 1
    # The error may quote the record. Escape it, so that a record can't forge a line of the log.
    log.error("dead-lettered %s-%s offset %s: %s", topic, partition, record.offset, ascii(error)[1:-1])
    value = record.value or b""
    key = record.key if len(record.key or b"") <= KEY_BYTES else None
    dead.append(key, value[:VALUE_BYTES], dead_letter_headers(topic, partition, record, error))


def dead_letter_headers(topic: str, partition: int, record: Any, error: str) -> list[tuple[str, bytes]]:
    """The record's headers, except `dlq-*` and headers that are too large, then those of the dead letter."""
    headers = without_dlq_headers(record.headers)
    if sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES:
        headers = []
    headers += [
        (ORIGIN_TOPIC, topic.encode()),
        (ORIGIN_PARTITION, str(partition).encode()),
        (ORIGIN_OFFSET, str(record.offset).encode()),
        (ERROR, error.encode(errors="backslashreplace")[:1000]),
    ]
    value = record.value or b""
    if len(value) > VALUE_BYTES or len(record.key or b"") > KEY_BYTES:
        headers.append((TRUNCATED, f"{len(value)} {sha256(value).hexdigest()}".encode()))
    return headers


def without_dlq_headers(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    """A record's headers without those that only the sender or the redriver of a dead letter sets."""
    return [(name, value or b"") for name, value in headers if not name.lower().startswith(DLQ_PREFIX)]


def dlq_header(headers: Sequence[tuple[str, bytes | None]], name: str) -> str | None:
    """The value of the last `dlq-*` header of that name. Older builds kept the original headers before their own."""
    for one, value in reversed(headers):
        if one == name and value is not None:
            return value.decode(errors="replace")
    return None
