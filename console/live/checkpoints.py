"""The age of the checkpoints by consumer group, from the metrics of the services.

Only the owner of a partition knows it. Without addresses of metrics nothing is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from aiohttp import ClientError, ClientSession, ClientTimeout
from prometheus_client.parser import text_string_to_metric_families

from chassis.telemetry.metrics.metrics_of_services import CHECKPOINT_AGE

log = logging.getLogger(__name__)

READ_S = 1.0
_GROUP = "consumer_group"


class Checkpoints:
    """The newest readings."""

    def __init__(self, addresses: str) -> None:
        """`addresses` of ports with /metrics, separated by commas. Connects to nothing."""
        self._addresses = [one.strip() for one in addresses.split(",") if one.strip()]
        #: Seconds since the oldest change that no checkpoint has, by consumer group.
        self.ages_s: dict[str, float] = {}

    async def read(self) -> None:
        """Reads all addresses. One that does not answer is left out."""
        if not self._addresses:
            return
        found: dict[str, float] = {}
        async with ClientSession(timeout=ClientTimeout(total=READ_S)) as session:
            for text in await asyncio.gather(*(_text(session, one) for one in self._addresses)):
                for group, age_s in ages_in(text):
                    found[group] = max(age_s, found.get(group, 0.0))
        self.ages_s = found


def ages_in(text: str) -> Iterable[tuple[str, float]]:
    """Consumer group and age of the checkpoint in a page of metrics."""
    lines = [line for line in text.splitlines() if line.startswith(f"{CHECKPOINT_AGE.name}{{")]
    for one in text_string_to_metric_families("\n".join(lines)):
        for sample in one.samples:
            yield sample.labels.get(_GROUP, ""), sample.value


async def _text(session: ClientSession, address: str) -> str:
    try:
        async with session.get(f"http://{address}/metrics") as answer:
            return await answer.text() if answer.status == 200 else ""
    except (ClientError, TimeoutError, OSError, UnicodeDecodeError) as error:
        log.debug("the metrics at %s can't be read: %s", address, error)
        return ""
