"""The topics and consumer groups of the product. Creation, checks and tools all use this list."""

from __future__ import annotations

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.inventory.v1.decisions_pb2 import AllowanceDecision, StockDecision
from groupbuy.inventory.v1.inbox_pb2 import AllowanceInput, StockInput
from groupbuy.inventory.v1.offers_pb2 import StockOffer
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.orders.v1.outcomes_pb2 import OrderOutcome
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from groupbuy.registry.v1.registry_pb2 import RegistryRecord

from eventlog.records.topic_spec import DAY_MS, FOR_EVER, TopicSpec, dead_letter_name, with_dead_letters

#: Prefix of the names of all consumer groups.
GROUP_PREFIX = "groupbuy."
GROUPS_SEQUENCER = "groupbuy.groups.sequencer"
GROUPS_DECIDER = "groupbuy.groups.decider"
GROUPS_ROUTER = "groupbuy.groups.router"
INVENTORY_ROUTER = "groupbuy.inventory.router"
INVENTORY_OFFERS = "groupbuy.inventory.offers"
INVENTORY_STOCK_DECIDER = "groupbuy.inventory.stock-decider"
INVENTORY_ALLOWANCE_DECIDER = "groupbuy.inventory.allowance-decider"
PAYMENTS_SEQUENCER = "groupbuy.payments.sequencer"
PAYMENTS_DECIDER = "groupbuy.payments.decider"
PAYMENTS_EFFECTS = "groupbuy.payments.effects"
PAYMENTS_LEDGER = "groupbuy.payments.ledger"
ORDERS_PROJECTION = "groupbuy.orders.projection"

ORDERS = TopicSpec("orders.order.v1", OrderFact, "group", "orders", (GROUPS_SEQUENCER, ORDERS_PROJECTION), 90 * DAY_MS)
# Compacted; its readers load all of it, without a consumer group.
CAMPAIGNS = TopicSpec(
    "groups.campaign.v1", Campaign, "campaign", "groups", (), FOR_EVER, compacted=True, followers=("orders",)
)
GROUP_INBOX = TopicSpec("groups.inbox.v1", GroupInput, "group", "groups", (GROUPS_DECIDER,), 90 * DAY_MS)
GROUP_LOG = TopicSpec(
    "groups.group.v1",
    GroupDecision,
    "group",
    "groups",
    (PAYMENTS_SEQUENCER, ORDERS_PROJECTION, INVENTORY_ROUTER),
    FOR_EVER,
)
PAYMENT_INBOX = TopicSpec("payments.inbox.v1", PaymentInput, "group", "payments", (PAYMENTS_DECIDER,), 90 * DAY_MS)
PAYMENT_LOG = TopicSpec(
    "payments.payment.v1",
    PaymentDecision,
    "group",
    "payments",
    (GROUPS_SEQUENCER, PAYMENTS_EFFECTS, PAYMENTS_LEDGER, ORDERS_PROJECTION),
    FOR_EVER,
)

# Pieces and allowances. A router carries what a group decides to the stock item or the customer, and back.
STOCK_INBOX = TopicSpec(
    "inventory.stock-inbox.v1", StockInput, "stock", "inventory", (INVENTORY_STOCK_DECIDER,), 90 * DAY_MS
)
STOCK_LOG = TopicSpec(
    "inventory.stock.v1", StockDecision, "stock", "inventory", (GROUPS_ROUTER, INVENTORY_OFFERS), FOR_EVER
)
# Compacted; its readers load all of it, without a consumer group.
OFFERS = TopicSpec(
    "inventory.offer.v1", StockOffer, "stock", "inventory", (), FOR_EVER, compacted=True, followers=("orders",)
)
ALLOWANCE_INBOX = TopicSpec(
    "inventory.allowance-inbox.v1",
    AllowanceInput,
    "campaign/customer",
    "inventory",
    (INVENTORY_ALLOWANCE_DECIDER,),
    90 * DAY_MS,
)
ALLOWANCE_LOG = TopicSpec(
    "inventory.allowance.v1", AllowanceDecision, "campaign/customer", "inventory", (GROUPS_ROUTER,), FOR_EVER
)
# Facts about the log itself: log_registry.py. Operators write it, every process loads all of it.
REGISTRY = TopicSpec(
    "groupbuy.registry.v1",
    RegistryRecord,
    "entry",
    "ops",
    (),
    FOR_EVER,
    compacted=True,
    followers=("groups", "orders", "payments", "inventory"),
)

# The last word about each order, for other systems. No process of ours reads it.
OUTCOMES = TopicSpec("orders.outcome.v1", OrderOutcome, "group", "orders", (), FOR_EVER, public=True)

INVENTORY = (STOCK_INBOX, STOCK_LOG, OFFERS, ALLOWANCE_INBOX, ALLOWANCE_LOG)
#: Consumer groups of installations with the inventory service. Elsewhere nobody joins them.
OF_INVENTORY = frozenset(
    {GROUPS_ROUTER, INVENTORY_ROUTER, INVENTORY_OFFERS, INVENTORY_STOCK_DECIDER, INVENTORY_ALLOWANCE_DECIDER}
)
BUSINESS = (ORDERS, CAMPAIGNS, GROUP_INBOX, GROUP_LOG, PAYMENT_INBOX, PAYMENT_LOG, *INVENTORY, OUTCOMES)
ALL = (*with_dead_letters(BUSINESS), REGISTRY)


def dlq_name(topic: TopicSpec, service: str) -> str:
    """Name of a service's dead-letter topic for a topic that it reads."""
    return dead_letter_name(topic.name, service)
