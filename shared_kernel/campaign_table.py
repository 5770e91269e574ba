"""The campaigns' topic, read whole by every service that opens groups of them or checks orders against them.

A campaign is archived and never removed: a record without a value, or one that names another campaign than its key,
changes no offer. Both are counted and logged as critical.
"""

from __future__ import annotations

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from eventlog.broker.security import Kafka
from eventlog.views.global_table import GlobalTable
from shared_kernel.topics import CAMPAIGNS


def mismatch(key: str, campaign: Campaign) -> str:
    """Why a campaign can't be that of its key; empty if it can."""
    return "" if campaign.name == f"campaigns/{key}" else f"it is {campaign.name!a}, not the campaign of its key"


def reader(kafka: Kafka, instance: str) -> GlobalTable[Campaign]:
    """Campaigns by id. Start it before the processors."""
    return GlobalTable(
        kafka,
        CAMPAIGNS.name,
        Campaign.FromString,
        client_id=f"{instance}.campaigns",
        mismatch=mismatch,
        removable=False,
    )
