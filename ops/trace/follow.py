"""Follows the log and exports its traces by OTLP: the part of `groupbuy-ops watch` that has the option --otlp.

It begins REWIND_S before its start, so that a restart loses no span; a span that is exported twice has the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from aiokafka.errors import KafkaError

from eventlog.runtime.wall_clock import wall_clock_ms
from ops.errors import OpsError
from ops.log.reader import Reader
from ops.trace.otlp import OtlpExporter
from ops.trace.spans import SpanBuilder
from ops.trace.step import TOPICS

log = logging.getLogger(__name__)

REWIND_S = 600
#: Seconds between two looks at the log, two attempts at a broker that is away, and two lines about a collector.
POLL_S = 0.5
RETRY_S = 1.0
REPORT_S = 30.0
#: How far a partition may be read ahead of another, by the broker's time: steps then find their causes in memory.
_LEAD_MS = 2_000


class Sample(StrEnum):
    """The traces to export."""

    FLAG = "flag"
    ALL = "all"


class TraceFollower:
    """Exports the traces of all groups."""

    def __init__(
        self,
        kafka: str,
        collector: str,
        sample: Sample = Sample.FLAG,
        *,
        version: str = "",
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """`kafka` and `collector` are host:port. Raises OpsError without the extra `tracing`."""
        self._kafka = kafka
        self._sample = sample
        self._now_ms = now_ms
        self.exporter = OtlpExporter(collector, version=version)

    async def run(self) -> None:
        """Follows the log until this is cancelled."""
        async with self.exporter:
            await asyncio.gather(self._read(), self._send())

    async def _read(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, OpsError) as error:
                log.warning("the traces can't be read, retrying: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        builder = SpanBuilder(sampled_only=self._sample is Sample.FLAG)

        def take(topic: str, records: list[Any]) -> None:
            for record in records:
                self.exporter.add(builder.take(topic, record))

        async with Reader(self._kafka, [spec.name for spec in TOPICS]) as reader:
            await reader.seek_to_time(self._now_ms() - REWIND_S * 1_000)
            while True:
                await reader.read_to_end(take, _LEAD_MS)
                await asyncio.sleep(POLL_S)

    async def _send(self) -> None:
        exporter, clock = self.exporter, asyncio.get_running_loop().time
        reported_s, lost = -REPORT_S, 0
        while True:
            sent = await exporter.export(())
            gone = exporter.dropped + exporter.rejected
            if (not sent or gone > lost) and clock() - reported_s >= REPORT_S:
                log.warning(
                    "the collector does not take all spans: %s", exporter.error or "its queue was full",
                    extra={"queued": exporter.queued, "dropped": exporter.dropped, "rejected": exporter.rejected},
                )  # fmt: skip
                reported_s, lost = clock(), gone
            await asyncio.sleep(POLL_S if sent else RETRY_S)
