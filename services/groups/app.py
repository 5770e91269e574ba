"""Wires the groups service. The only place that knows all of its parts."""

from __future__ import annotations

from groupbuy.groups.v1 import campaigns_pb2_grpc, groups_pb2_grpc
from groupbuy.groups.v1.campaigns_pb2 import Campaign

from chassis import topics
from chassis.process import Servicer, Wiring
from eventlog.compacted import CompactedReader
from eventlog.decider import Decider
from eventlog.fleet import Fleet
from eventlog.processor import Connection
from eventlog.publisher import Publisher
from eventlog.rocks import Codec
from eventlog.sequencer import Sequencer
from services.groups.api.campaigns import CampaignServicer
from services.groups.api.groups import GroupServicer
from services.groups.domain.domain import GroupDomain
from services.groups.domain.state import State
from services.groups.processors.sequencer import GroupCopying
from services.groups.settings import GroupsSettings

#: Changes with the meaning of a kept state, which is then folded anew from the log.
STATE_STAMP = "groups-1"


def wire(settings: GroupsSettings) -> Wiring:
    """Makes the parts and connects to nothing."""
    connection = Connection(settings.kafka, settings.instance, settings.state_dir)
    publisher = Publisher(settings.kafka, client_id=settings.instance)
    campaigns = CompactedReader(
        settings.kafka, topics.CAMPAIGNS.name, Campaign.FromString, client_id=f"{settings.instance}.campaigns"
    )
    copying = GroupCopying(topics.ORDERS.name, topics.PAYMENT_LOG.name, campaigns.find, campaigns.find_fresh)
    sequencer = Sequencer(
        topics.GROUPS_SEQUENCER, (topics.ORDERS, topics.PAYMENT_LOG), topics.GROUP_INBOX, copying, connection
    )
    codec: Codec[State] = Codec(STATE_STAMP)
    decider = Decider(topics.GROUPS_DECIDER, topics.GROUP_INBOX, topics.GROUP_LOG, GroupDomain(), connection, codec)
    return Wiring(
        servicers=(
            Servicer(
                groups_pb2_grpc.add_GroupServiceServicer_to_server,
                GroupServicer(decider, publisher),
                "groupbuy.groups.v1.GroupService",
            ),
            Servicer(
                campaigns_pb2_grpc.add_CampaignServiceServicer_to_server,
                CampaignServicer(campaigns, publisher),
                "groupbuy.groups.v1.CampaignService",
            ),
        ),
        publisher=publisher,
        processors=Fleet((sequencer, decider), (campaigns,)),
        topics=topics.ALL,
    )
