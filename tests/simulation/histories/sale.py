"""Random sales: one campaign for all groups of a history, with a stock item or a limit per customer or both, and the
merchant's commands for the stock item.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.inventory.v1.inbox_pb2 import ArchiveStockCommand, CreateStockCommand, StockInput, UpdateStockCommand

from shared_kernel import topics
from tests.simulation.histories.offers import make_campaign
from tests.simulation.world.shop import Act

STOCK = "drop"
CAMPAIGN = "sale"
#: Pieces, for about 25 that the shoppers of a history order.
TOTALS = (0, 2, 6, 12, 40)
#: Groups begin within this time, and end half an hour after it at the latest.
BEGIN_MS = 600_000


def make_sale(chance: Random, start_ms: int) -> Campaign:
    """A random valid campaign of rules version 2."""
    campaign = make_campaign(chance, CAMPAIGN)
    campaign.rules_version = 2
    campaign.limit_per_customer = chance.choice((0, 0, 1, 2, 4))
    if not campaign.limit_per_customer or chance.random() < 0.8:
        campaign.stock = f"stocks/{STOCK}"
        campaign.lease_ahead = chance.choice((0, 0, 1, campaign.capacity))
    if chance.random() < 0.2:
        campaign.start_time.CopyFrom(_time(start_ms + chance.randrange(BEGIN_MS // 2)))
    if chance.random() < 0.2:
        campaign.end_time.CopyFrom(_time(start_ms + BEGIN_MS + chance.randrange(BEGIN_MS)))
    return campaign


def stock_acts(chance: Random) -> Iterator[Act]:
    """The commands for the stock item. Most come once, some again."""
    divisor = chance.choice((0, 1, 2))
    create = CreateStockCommand(request_id="create", total=chance.choice(TOTALS), lease_divisor=divisor)
    commands = [(0 if chance.random() < 0.9 else BEGIN_MS // 2, StockInput(create=create))]
    for number in range(chance.choice((0, 1, 1, 3))):
        update = UpdateStockCommand(request_id=f"update-{number}", total=chance.choice(TOTALS))
        if chance.random() < 0.2:
            update.expected_revision = 1
        commands.append((chance.randrange(3 * BEGIN_MS), StockInput(update=update)))
    if chance.random() < 0.15:
        archive = ArchiveStockCommand(request_id="archive")
        commands.append((chance.randrange(3 * BEGIN_MS), StockInput(archive=archive)))
    for at_ms, command in commands:
        for _ in range(chance.choice((1, 1, 1, 2))):
            yield Act(at_ms, "stock", topics.STOCK_INBOX.name, STOCK, command.SerializeToString())


def _time(milliseconds: int) -> Timestamp:
    made = Timestamp()
    made.FromMilliseconds(milliseconds)
    return made
