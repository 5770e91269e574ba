"""The declared number of partitions, for commands that need one."""

from __future__ import annotations

from eventlog.broker.security import Kafka
from ops.errors import OpsError, cannot_run
from shared_kernel import log_registry


def not_declared() -> OpsError:
    """The error of a log without a declared number of partitions."""
    return cannot_run(f"the number of partitions is not declared: run {log_registry.CREATE}")


async def declared_partitions(kafka: Kafka) -> int:
    """The declared number of partitions. Raises OpsError if there is none."""
    number = await log_registry.declared(kafka)
    if number is None:
        raise not_declared()
    return number
