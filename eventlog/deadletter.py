"""Records that could not be decoded: their raw bytes, with where they came from and what was wrong in the headers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from eventlog.output import Output

log = logging.getLogger(__name__)

ORIGIN_TOPIC = "dlq-origin-topic"
ORIGIN_PARTITION = "dlq-origin-partition"
ORIGIN_OFFSET = "dlq-origin-offset"
ERROR = "dlq-error"


class Undecodable(Exception):
    """A record from outside can't be decoded. It goes to the dead-letter topic, and the processor goes on."""


def bury(dead: Output, counts: dict[str, int], topic: str, partition: int, record: Any, error: str) -> None:
    """Appends a record that can't be decoded to `dead`, and counts it by its topic."""
    counts[topic] = counts.get(topic, 0) + 1
    log.error("dead-lettered %s-%s offset %s: %s", topic, partition, record.offset, error)
    dead.append(record.key, record.value or b"", dead_letter_headers(topic, partition, record, error))


def dead_letter_headers(topic: str, partition: int, record: Any, error: str) -> list[tuple[str, bytes]]:
    """The record's own headers, and its origin. A dead letter that is copied again names its first origin last."""
    return [
        *_own(record.headers),
        (ORIGIN_TOPIC, topic.encode()),
        (ORIGIN_PARTITION, str(partition).encode()),
        (ORIGIN_OFFSET, str(record.offset).encode()),
        (ERROR, error.encode()[:1000]),
    ]


def _own(headers: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    return [(name, value or b"") for name, value in headers]
