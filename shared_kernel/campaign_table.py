"""The campaigns' topic as a table, for every service that opens groups of campaigns or checks orders against them.

Campaigns are archived and not removed: a record without a value, or with the name of another campaign than its key, is
ignored, counted and logged as critical.
"""

from __future__ import annotations

from typing import Protocol

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from eventlog.broker.security import Kafka
from eventlog.views.global_table import GlobalTable
from shared_kernel.topics import CAMPAIGNS


class FindsCampaigns(Protocol):
    """Campaigns by id, from the campaigns' topic."""

    def find(self, key: str, /) -> Campaign | None:
        """A campaign, if the part of the topic that was read has it."""
        ...

    async def get_latest(self, key: str, /) -> Campaign | None:
        """A campaign, or None if the topic, read to its current end, has none. Raises BrokerUnavailable."""
        ...


def mismatch(key: str, campaign: Campaign) -> str:
    """Why a campaign does not belong under its key; empty if it does."""
    return "" if campaign.name == f"campaigns/{key}" else f"it is {campaign.name!a}, not the campaign of its key"


def reader(kafka: Kafka, instance: str) -> GlobalTable[Campaign]:
    """The campaigns by id. Start the table before the processors."""
    return GlobalTable(
        kafka,
        CAMPAIGNS.name,
        Campaign.FromString,
        client_id=f"{instance}.campaigns",
        mismatch=mismatch,
        removable=False,
    )
