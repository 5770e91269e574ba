"""The connections of a service to Kafka and to its other replicas, from its settings."""

from __future__ import annotations

from chassis.lifecycle.settings import ServiceSettings
from chassis.routing.partition_router import Ownership, PartitionRouter
from chassis.routing.peer_calls import channel_factory
from eventlog.processors.base import Connection
from eventlog.producing.publisher import Publisher
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
        session_s=settings.session_seconds,
    )
    return connection, skips


def publisher_of(settings: ServiceSettings) -> Publisher:
    """The publisher of the service's API."""
    return Publisher(settings.brokers, client_id=settings.instance)


def router_of(settings: ServiceSettings, service: str, ownership: Ownership) -> PartitionRouter:
    """The router of a gRPC service, full name `service`, to the replicas that own its partitions."""
    return PartitionRouter(service, ownership, settings.address, channel_factory(settings))
