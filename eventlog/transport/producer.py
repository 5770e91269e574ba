"""The producer of a processor: idempotent, and nothing counts as written before all in-sync replicas have it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver


class BatchProducer(driver.Producer):  # type: ignore[misc]
    """Faust's producer is not idempotent outside of transactions; this one always is."""

    # The library announces its every step here: its chatter, under its name.
    logger = logging.getLogger("faust.eventlog")

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}
