"""Builds the groups service from its parts."""

from __future__ import annotations

from groupbuy.groups.v1 import campaigns_pb2_grpc, groups_pb2_grpc, links_pb2_grpc

from chassis.admission.thread_priority import DECIDING
from chassis.lifecycle.connection import connection_of, publisher_of, router_of
from chassis.lifecycle.runner import Servicer, ServiceSpec
from chassis.rpc.trace_context import TraceStarter
from chassis.telemetry.event_log import DecisionEventLog, EventLog
from chassis.telemetry.metrics.metrics_kernel import kernel_metrics
from eventlog.processors.base import Processor
from eventlog.processors.processor_group import ProcessorGroup
from eventlog.processors.router import Router
from eventlog.processors.sequencer import Sequencer
from services.groups.api import links
from services.groups.api.campaigns import CampaignServicer
from services.groups.api.groups import GroupServicer
from services.groups.api.links import LinkServicer
from services.groups.processors.business_events import business_events
from services.groups.processors.decider import group_decider
from services.groups.processors.router import AnswerRoutes
from services.groups.processors.sequencer import GroupInboxMapper
from services.groups.settings import GroupsSettings
from shared_kernel import campaign_table as campaigns_of
from shared_kernel import topics
from shared_kernel.payment_providers import capabilities_of
from shared_kernel.provider_settings import provider_names
from shared_kernel.share_links.share_link_settings import keys_of

SERVICE = "groupbuy.groups.v1.GroupService"
CAMPAIGN_SERVICE = "groupbuy.groups.v1.CampaignService"


def build(settings: GroupsSettings) -> ServiceSpec:
    """Builds the parts; connects to nothing."""
    connection, skips = connection_of(settings)
    publisher = publisher_of(settings)
    campaigns = campaigns_of.reader(settings.brokers, settings.instance)
    mapper = GroupInboxMapper(topics.ORDERS.name, campaigns.find, campaigns.get_latest)
    sequencer = Sequencer(
        topics.GROUPS_SEQUENCER, (topics.ORDERS, topics.PAYMENT_LOG), topics.GROUP_INBOX, mapper, connection
    )
    event_log = EventLog("services.groups.events", settings.event_lines_per_second)
    decider = group_decider(connection, DecisionEventLog(event_log, business_events))
    replicas = router_of(settings, SERVICE, decider)
    group_servicer = GroupServicer(
        decider, publisher, replicas=replicas, trace_starter=TraceStarter(settings.trace_share)
    )
    campaign_servicer = CampaignServicer(
        campaigns,
        publisher,
        providers=capabilities_of(provider_names(settings.providers)),
        inventory=settings.inventory,
    )
    processors: tuple[Processor, ...] = (sequencer, decider)
    if settings.inventory:
        sources = (topics.STOCK_LOG, topics.ALLOWANCE_LOG)
        processors = (*processors, Router(topics.GROUPS_ROUTER, sources, AnswerRoutes(), connection))
    return ServiceSpec(
        servicers=(
            Servicer(groups_pb2_grpc.add_GroupServiceServicer_to_server, group_servicer, SERVICE),
            Servicer(campaigns_pb2_grpc.add_CampaignServiceServicer_to_server, campaign_servicer, CAMPAIGN_SERVICE),
            Servicer(
                links_pb2_grpc.add_LinkServiceServicer_to_server,
                LinkServicer(keys_of(settings.link_keys), group_servicer, campaign_servicer, settings.link_base_url),
                links.SERVICE,
            ),
        ),
        publisher=publisher,
        processors=ProcessorGroup(processors, (campaigns, skips), (replicas.close,)),
        topics=topics.ALL,
        collectors=(kernel_metrics(processors, publisher),),
        thread_priorities=DECIDING,
    )
