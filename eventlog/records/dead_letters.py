"""Dead letters: records that could not be decoded, with their raw bytes, their origin and the error in headers.

The name of a dead-letter topic names the source topic and the service that buried the record; the partition is the
source's own. Headers `dlq-*` are the burying service's: those that the record's writer has set are not copied. A record
that is too large for a dead letter is cut; its length and digest then stand in a header.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from eventlog.producing.batch_output import Output

log = logging.getLogger(__name__)

#: What every header of ours begins with.
OURS = "dlq-"
ORIGIN_TOPIC = "dlq-origin-topic"
ORIGIN_PARTITION = "dlq-origin-partition"
ORIGIN_OFFSET = "dlq-origin-offset"
ERROR = "dlq-error"
#: `{length} {sha256}` of the whole value, where only its beginning was kept.
CUT = "dlq-cut"
#: Bytes that a dead letter keeps of a value, and of the key and the headers. Together they fit into one batch.
VALUE_BYTES, KEY_BYTES, HEADER_BYTES = 768 * 1024, 16 * 1024, 64 * 1024


class Undecodable(Exception):
    """A record from outside can't be decoded. It goes to the dead-letter topic, and the processor goes on."""


def send_to_dlq(dead: Output, counts: dict[str, int], topic: str, partition: int, record: Any, error: str) -> None:
    """Appends a record that can't be decoded to `dead`, and counts it by its topic."""
    counts[topic] = counts.get(topic, 0) + 1
    # The error may quote the record: it must stay one line of the log.
    log.error("dead-lettered %s-%s offset %s: %s", topic, partition, record.offset, ascii(error)[1:-1])
    value = record.value or b""
    key = record.key if len(record.key or b"") <= KEY_BYTES else None
    dead.append(key, value[:VALUE_BYTES], dead_letter_headers(topic, partition, record, error))


def dead_letter_headers(topic: str, partition: int, record: Any, error: str) -> list[tuple[str, bytes]]:
    """The record's own headers without any `dlq-*`, and its origin. Headers that are too large are left out."""
    headers = own_headers(record.headers)
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
        headers.append((CUT, f"{len(value)} {sha256(value).hexdigest()}".encode()))
    return headers


def own_headers(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    """A record's headers without those that only whoever buries or redrives a record sets."""
    return [(name, value or b"") for name, value in headers if not name.lower().startswith(OURS)]


def our_header(headers: Sequence[tuple[str, bytes | None]], name: str) -> str | None:
    """Value of the last header of that name: older builds kept the writer's headers before their own."""
    for one, value in reversed(headers):
        if one == name and value is not None:
            return value.decode(errors="replace")
    return None
