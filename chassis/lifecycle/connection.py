"""The connection of a service's processors, made from its settings."""

from __future__ import annotations

from chassis.lifecycle.settings import ServiceSettings
from eventlog.processors.base import Connection
from eventlog.views.recorded_skips import RecordedSkips
from shared_kernel import log_registry


def connection_of(settings: ServiceSettings) -> tuple[Connection, RecordedSkips]:
    """The connection, and the reader of recorded skips that it names: the service starts and stops it."""
    skips = log_registry.skips(settings.brokers, settings.instance)
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
