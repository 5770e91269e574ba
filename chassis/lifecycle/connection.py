"""The Kafka connection of a service's processors, from its settings."""

from __future__ import annotations

from chassis.lifecycle.settings import ServiceSettings
from eventlog.processors.base import Connection
from eventlog.views.recorded_skips import RecordedSkips
from shared_kernel import log_registry


def connection_of(settings: ServiceSettings) -> tuple[Connection, RecordedSkips]:
    """The connection, and its reader of recorded skips, which the service starts and stops."""
    skips = log_registry.recorded_skips(settings.brokers, settings.instance)
    connection = Connection(
        settings.brokers,
        settings.instance,
        settings.state_dir,
        settings.address,
        skips,
        standbys=settings.standbys,
        warm_s=settings.warm_seconds,
    )
    return connection, skips
