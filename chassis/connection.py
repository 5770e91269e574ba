"""The connection of a service's processors, made from its settings."""

from __future__ import annotations

from chassis import registry
from chassis.settings import ServiceSettings
from eventlog.processor import Connection
from eventlog.registry import RecordedSkips


def connection_of(settings: ServiceSettings) -> tuple[Connection, RecordedSkips]:
    """The connection, and the reader of recorded skips that it names: the service starts and stops it."""
    skips = registry.skips(settings.brokers, settings.instance)
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
