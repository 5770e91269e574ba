"""Builds the orders service from its parts."""

from __future__ import annotations

from groupbuy.orders.v1 import orders_pb2_grpc

from chassis.lifecycle.connection import connection_of, publisher_of, router_of
from chassis.lifecycle.runner import Servicer, ServiceSpec
from chassis.rpc.trace_context import TraceStarter
from chassis.telemetry.event_log import EventLog
from chassis.telemetry.metrics.metrics_kernel import kernel_metrics
from eventlog.processors.processor_group import ProcessorGroup
from services.orders.api.orders import OrderServicer
from services.orders.processors.projection import OrdersProjection
from services.orders.settings import OrdersSettings
from shared_kernel import campaign_table as campaigns_of
from shared_kernel import offer_table as offers_of
from shared_kernel import topics
from shared_kernel.provider_settings import provider_names
from shared_kernel.share_links.share_link_settings import keys_of

SERVICE = "groupbuy.orders.v1.OrderService"


def build(settings: OrdersSettings) -> ServiceSpec:
    """Builds the parts; connects to nothing."""
    connection, skips = connection_of(settings)
    publisher = publisher_of(settings)
    campaigns = campaigns_of.reader(settings.brokers, settings.instance)
    projection = OrdersProjection(
        topics.ORDERS_PROJECTION,
        topics.ORDERS,
        topics.GROUP_LOG,
        topics.PAYMENT_LOG,
        settings.service,
        connection,
        outcomes=topics.OUTCOMES if settings.outcomes else None,
    )
    offers = offers_of.reader(settings.brokers, settings.instance) if settings.inventory else None
    tables = (campaigns, skips) if offers is None else (campaigns, offers, skips)
    replicas = router_of(settings, SERVICE, projection)
    keys = keys_of(settings.link_keys)
    return ServiceSpec(
        servicers=(
            Servicer(
                orders_pb2_grpc.add_OrderServiceServicer_to_server,
                OrderServicer(
                    projection,
                    campaigns,
                    publisher,
                    link_keys=keys,
                    replicas=replicas,
                    trace_starter=TraceStarter(settings.trace_share),
                    event_log=EventLog("services.orders.events", settings.event_lines_per_second),
                    providers=provider_names(settings.providers),
                    offers=offers,
                ),
                SERVICE,
            ),
        ),
        publisher=publisher,
        processors=ProcessorGroup((projection,), tables, (replicas.close,)),
        topics=topics.ALL,
        collectors=(kernel_metrics((projection,), publisher),),
    )
