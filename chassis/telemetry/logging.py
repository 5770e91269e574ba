"""Structured logs on standard output, one object a line, from structlog and from the standard library alike.

Secrets are redacted (redaction.py), and repeated lines of a library are held back, so that an outage of the broker does
not fill the disk. A line of a call with a traceparent has its trace id. Standard error is reserved for the report of a
process that aborts.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from chassis.rpc.trace_context import current_trace_id
from chassis.telemetry.printable import json_safe, printable, printable_lines
from chassis.telemetry.redaction import redact

#: Libraries that log at WARNING and above only.
LIBRARIES = ("faust", "mode", "aiokafka", "kafka", "grpc", "_cygrpc", "asyncio", "concurrent")
#: Seconds in which a library may log the same message once.
REPEAT_S = 10.0
#: Attribute of a log record: the fields of a business event, which hold neither secrets nor texts of others.
FIELDS = "business_fields"
_REMEMBERED = 1_000


def configure(*, level: str, form: str, service: str, instance: str) -> None:
    """Sends every log of the process through one handler. `form` is json or console."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _of(service, instance),
        _with_trace,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(RepeatFilter())
    handler.setFormatter(
        _Formatter(
            {"service": service, "instance": instance} if form == "json" else None,
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _with_fields],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact,
                *_rendered(form),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


@contextmanager
def silenced(library: str) -> Iterator[None]:
    """Silences a library in the block, for failures that the caller reports itself."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


class RepeatFilter(logging.Filter):
    """Lets a library log the same message once in REPEAT_S, then with the number held back. Our own logs pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.name.split(".")[0] not in LIBRARIES:
            return True
        key = (record.name, str(record.msg))
        now = self._clock()
        at, held_back = self._last.get(key, (-REPEAT_S, 0))
        if now - at < REPEAT_S:
            self._last[key] = (at, held_back + 1)
            return False
        if len(self._last) >= _REMEMBERED:
            self._last.clear()
        self._last[key] = (now, 0)
        if held_back:
            record.held_back = held_back
        return True


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders business events by a shorter way: 20 us a line instead of 90."""

    def __init__(self, of: dict[str, str] | None, **settings: Any) -> None:
        """`of` names the process in JSON; None for another form, which has one way."""
        super().__init__(**settings)
        self._of = of

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        fields = getattr(record, FIELDS, None)
        if fields is None or self._of is None:
            return super().format(record)
        time_ = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = {"event": record.msg, **fields, "logger": record.name, "level": "info", "timestamp": time_}
        return json_safe(json.dumps({**head, **self._of}, ensure_ascii=False))


def _with_fields(_logger: Any, _method: str, event: EventDict) -> EventDict:
    event.update(event.pop(FIELDS, {}))
    return event


def _with_trace(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Adds the call's trace. The kernel's lines are about no call, though a call may have started their task."""
    trace_id = current_trace_id()
    if trace_id and not event["logger"].startswith("eventlog."):
        event.setdefault("trace", trace_id)
    return event


def _of(service: str, instance: str) -> Processor:
    def add(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        event["instance"] = instance
        return event

    return add


def _rendered(form: str) -> list[Processor]:
    """Renders without control characters: events may quote text that others wrote."""
    if form == "json":
        return [structlog.processors.JSONRenderer(ensure_ascii=False, default=str), _json_safe]
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )
    return [_printable, console]


def _json_safe(_logger: Any, _method: str, line: Any) -> Any:
    return json_safe(line)


def _printable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str):
            # The line feeds of a traceback are ours.
            event[name] = printable_lines(value) if name in {"exception", "stack"} else printable(value)
    return event
