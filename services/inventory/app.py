"""Builds the inventory service from its parts."""

from __future__ import annotations

from groupbuy.inventory.v1 import stocks_pb2_grpc

from chassis.admission.thread_priority import DECIDING
from chassis.lifecycle.connection import connection_of, publisher_of, router_of
from chassis.lifecycle.runner import Servicer, ServiceSpec
from chassis.telemetry.event_log import DecisionEventLog, EventLog
from chassis.telemetry.metrics.metrics_kernel import kernel_metrics
from eventlog.processors.processor_group import ProcessorGroup
from eventlog.processors.router import Router
from services.inventory.api.stocks import StockServicer
from services.inventory.processors.business_events import business_events
from services.inventory.processors.deciders import allowance_decider, stock_decider
from services.inventory.processors.offers import OfferRoutes
from services.inventory.processors.router import InventoryRoutes
from services.inventory.settings import InventorySettings
from shared_kernel import topics

SERVICE = "groupbuy.inventory.v1.StockService"


def build(settings: InventorySettings) -> ServiceSpec:
    """Builds the parts; connects to nothing."""
    connection, skips = connection_of(settings)
    publisher = publisher_of(settings)
    router = Router(topics.INVENTORY_ROUTER, (topics.GROUP_LOG,), InventoryRoutes(), connection)
    offers = Router(topics.INVENTORY_OFFERS, (topics.STOCK_LOG,), OfferRoutes(), connection)
    event_log = EventLog("services.inventory.events", settings.event_lines_per_second)
    stocks = stock_decider(connection, DecisionEventLog(event_log, business_events))
    allowances = allowance_decider(connection)
    stock_replicas, allowance_replicas = (router_of(settings, SERVICE, one) for one in (stocks, allowances))
    processors = (router, offers, stocks, allowances)
    servicer = StockServicer(
        stocks, allowances, publisher, replicas=stock_replicas, allowance_replicas=allowance_replicas
    )
    return ServiceSpec(
        servicers=(Servicer(stocks_pb2_grpc.add_StockServiceServicer_to_server, servicer, SERVICE),),
        publisher=publisher,
        processors=ProcessorGroup(processors, (skips,), (stock_replicas.close, allowance_replicas.close)),
        topics=topics.ALL,
        collectors=(kernel_metrics(processors, publisher),),
        thread_priorities=DECIDING,
    )
