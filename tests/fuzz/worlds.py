"""The services without Kafka, as in the unit tests of their APIs.

`reset` drops a world's history, so that growing memory means a leak. Call it without calls in flight only.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import DecodeError, Message
from groupbuy.groups.v1 import campaigns_pb2 as c
from groupbuy.groups.v1 import campaigns_pb2_grpc, groups_pb2_grpc, links_pb2_grpc
from groupbuy.groups.v1 import decisions_pb2 as gd
from groupbuy.groups.v1 import groups_pb2 as g
from groupbuy.groups.v1 import links_pb2 as lk
from groupbuy.links.v1.links_pb2 import SHARE_CHANNEL_FRIEND
from groupbuy.orders.v1 import orders_pb2 as o
from groupbuy.orders.v1 import orders_pb2_grpc
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.payments.v1 import decisions_pb2 as pd
from groupbuy.payments.v1 import ledger_pb2 as pl
from groupbuy.payments.v1 import operator_pb2 as po
from groupbuy.payments.v1 import operator_pb2_grpc, payments_pb2_grpc
from groupbuy.payments.v1 import payments_pb2 as p
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from eventlog.core.aggregate import Aggregate, decide
from eventlog.state.database import Database
from eventlog.views.change_notifier import ChangeNotifier
from services.groups.api.campaigns import CampaignServicer
from services.groups.api.groups import GroupServicer
from services.groups.api.links import LinkServicer
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State
from services.groups.processors.open_groups import OpenGroups
from services.orders.api.orders import OrderServicer
from services.orders.domain.ids import group_id, order_id
from services.payments.ledger.store import STAMP, PartitionLedger
from services.payments.providers.registry import notifications_of
from shared_kernel.share_links.share_link_token import Keys, Link
from shared_kernel.topics import CAMPAIGNS
from tests.fuzz.inventory_world import InventoryWorld
from tests.scenarios import facts
from tests.scenarios import group_events as ge
from tests.scenarios import orders as h
from tests.scenarios.inputs import captured, order_fact
from tests.unit.groups_api import world as groups_world
from tests.unit.orders import world as orders_world
from tests.unit.orders.world import OTHER, REQUEST, TIME_MS, place_request
from tests.unit.payments_api import service as payments_service
from tests.unit.payments_api.operators import OperatorView, operators

NOW_S = TIME_MS // 1_000
KEYS = Keys({"k1": bytes(32)})
GROUP = group_id("ann", REQUEST)
ORDER = order_id(GROUP, "ann", REQUEST)
SECRET = "own"


class World(Protocol):
    """One service."""

    @property
    def servicers(self) -> Sequence[tuple[Callable[[Any, Any], None], object]]:
        """The generated functions that add its services, each with the servicer."""
        ...

    @property
    def known(self) -> Mapping[str, Sequence[str]]:
        """Known values by the name of the field that accepts them."""
        ...

    @property
    def good(self) -> Sequence[Message]:
        """Valid requests."""
        ...

    def reset(self) -> None:
        """Replaces the history by a small one."""
        ...

    def signed(self, data: bytes, chance: random.Random) -> bytes:
        """Adds the signature that a request needs."""
        ...


class OrdersWorld:
    """Orders: the fold of the real projection, and a decider that gives every order a seat."""

    def __init__(self, directory: Path) -> None:
        self._world = orders_world.World()
        self._world.decides = _seats
        self._world.campaigns.known["pot"] = c.Campaign(name="campaigns/pot", currency="JPY", archived=True)
        servicer = OrderServicer(
            self._world, self._world.campaigns, self._world, now_ms=lambda: TIME_MS, link_keys=KEYS
        )
        self.servicers = ((orders_pb2_grpc.add_OrderServiceServicer_to_server, servicer),)
        name = f"groups/{GROUP}/orders/{ORDER}"
        self.known = {
            "name": [name],
            "group": [f"groups/{GROUP}", ""],
            "parent": [f"groups/{GROUP}", "groups/-"],
            "campaign": ["campaigns/mug", "campaigns/pot"],
            "customer": ["ann", "bob"],
            "request_id": [REQUEST, OTHER],
            "share_link": [KEYS.sign(Link("zoe", 1, NOW_S, NOW_S + 60, campaign="mug")), ""],
        }
        self.good = (
            place_request(),
            place_request(customer="bob", group=f"groups/{GROUP}", request_id=OTHER),
            o.BatchPlaceOrdersRequest(
                requests=[place_request(), place_request(customer="bob", group=f"groups/{GROUP}")]
            ),
            o.PlaceOrdersRequest(requests=[place_request(wait=o.WAIT_ACCEPTED), place_request(customer="bob")]),
            o.GetOrderRequest(name=name),
            o.ListOrdersRequest(parent=f"groups/{GROUP}", page_size=1),
            o.ListOrdersRequest(parent="groups/-", customer="ann", page_size=1),
            o.CancelOrderRequest(name=name, request_id=OTHER),
            o.WatchOrderRequest(name=name),
        )
        self.reset()

    def reset(self) -> None:
        world = self._world
        for kept in (world.records, world.timeouts, world.together, world._states, world._groups, world._payments):
            kept.clear()
        world.forget_lists()
        for customer, request in (("ann", REQUEST), ("bob", OTHER)):
            order = order_id(GROUP, customer, request)
            world.fold(facts.placed(order, group=GROUP, customer=customer, opens_group=customer == "ann"))

    def signed(self, data: bytes, chance: random.Random) -> bytes:
        return data


def _seats(fact: OrderFact) -> list[gd.GroupEvent]:
    if fact.HasField("placed"):
        return h.reserves(fact)
    return [ge.seat_released(fact.order, gd.RELEASE_REASON_CANCELLED)]


class _GroupTable:
    """A table of groups, decided by the real domain."""

    def __init__(self) -> None:
        self.notifier = ChangeNotifier()
        self._domain: Any = GroupDomain()
        self.clear()

    def clear(self) -> None:
        self.aggregates: dict[str, Aggregate[State]] = {}
        self._open = OpenGroups()
        self._offset = 0

    def get(self, key: str) -> Aggregate[State] | None:
        found = self.aggregates.get(key)
        return found if found is not None and found.version else None

    def nearest(self, campaign: str, after: Any, limit: int, partitions: Any = None, /) -> Any:
        return self._open.nearest(campaign, after, limit)

    def decide(self, key: str, value: bytes) -> None:
        self._offset += 1
        aggregate = self.aggregates.setdefault(key, Aggregate(key, self._domain.initial(key)))
        if decide(self._domain, aggregate, value, self._offset, TIME_MS + self._offset):
            self._open.update(aggregate)
            self.notifier.notify(key)

    def place(self, key: str, order: str, offer: c.Campaign | None = None) -> None:
        fact = facts.placed(
            order,
            group=key,
            customer=f"customer-{order}",
            opens_group=offer is not None,
            max_unit_price_minor=8900,
        )
        self.decide(key, order_fact(fact, offer).SerializeToString())


class _Campaigns(groups_world.Reader):
    """The campaigns' topic, for calls that may be cancelled at any time."""

    async def refresh(self) -> None:
        await asyncio.sleep(0)
        self.read.update(self.unread)


class GroupsWorld:
    """Groups: the real decider over three groups, campaigns in memory, links."""

    groups = tuple(f"0b6a0c2e-0f54-5a4e-9a59-{number:012x}" for number in range(3))

    def __init__(self, directory: Path) -> None:
        self._table, self._broker, self._reader = _GroupTable(), groups_world.Broker(), _Campaigns()
        self._broker.reacts = self._react
        groups = GroupServicer(self._table, self._broker)
        campaigns = CampaignServicer(self._reader, self._broker)
        links = LinkServicer(KEYS, groups, campaigns, "https://shop.example/s/", lambda: NOW_S)
        self.servicers = (
            (groups_pb2_grpc.add_GroupServiceServicer_to_server, groups),
            (campaigns_pb2_grpc.add_CampaignServiceServicer_to_server, campaigns),
            (links_pb2_grpc.add_LinkServiceServicer_to_server, links),
        )
        names = [f"groups/{group}" for group in self.groups]
        tokens = [KEYS.sign(Link("zoe", 1, NOW_S, NOW_S + 60, group=group)) for group in self.groups]
        self.known = {
            "name": [*names, "campaigns/mug"],
            "campaign": ["campaigns/mug"],
            "target": [*names, "campaigns/mug"],
            "share_token": tokens,
            "parent_link": ["", *tokens],
            "campaign_id": ["mug", "pot", ""],
            "request_id": [REQUEST, OTHER],
            "paths": ["window", "tiers", "capacity", "*", "product", "name", "etag"],
        }
        offer = facts.campaign()
        edit = facts.campaign(name="campaigns/mug", window=Duration(seconds=7200))
        self.good = (
            c.CreateCampaignRequest(campaign=offer, campaign_id="mug", request_id=REQUEST),
            c.CreateCampaignRequest(campaign=offer, request_id=OTHER),
            c.UpdateCampaignRequest(campaign=edit, update_mask=FieldMask(paths=["window"])),
            c.UpdateCampaignRequest(campaign=edit),
            c.ArchiveCampaignRequest(name="campaigns/pot"),
            c.GetCampaignRequest(name="campaigns/mug"),
            c.ListCampaignsRequest(page_size=1),
            g.GetGroupRequest(name=names[0]),
            g.ListGroupsRequest(campaign="campaigns/mug", page_size=1),
            g.WatchGroupRequest(name=names[0]),
            g.CancelGroupRequest(name=names[2], request_id=OTHER),
            lk.CreateShareLinkRequest(target=names[0], inviter="ann", channel=SHARE_CHANNEL_FRIEND),
            lk.ResolveShareLinkRequest(share_token=tokens[0]),
        )
        self.reset()

    def _react(self, topic: str, key: str, value: bytes) -> None:
        if topic == CAMPAIGNS.name:
            self._reader.take(topic, key, value)
        else:
            self._table.decide(key, value)

    def reset(self) -> None:
        self._broker.records.clear()
        offer = facts.campaign(name="campaigns/mug", revision=1, rules_version=1)
        pot = facts.campaign(name="campaigns/pot", revision=1, rules_version=1)
        self._reader.read, self._reader.unread = {"mug": offer, "pot": pot}, {}
        self._table.clear()
        for number, group in enumerate(self.groups):
            for order in range(1 + number):
                self._table.place(group, f"o{order}", None if order else offer)

    def signed(self, data: bytes, chance: random.Random) -> bytes:
        return data


class _LedgerView:
    """The ledger's real store, of one partition."""

    def __init__(self, directory: Path) -> None:
        self.ledger = PartitionLedger(0, Database(directory, STAMP), "payments")

    def balances(self, partitions: object = None, /) -> Any:
        return self.ledger.balances

    def heads(self, partitions: object = None, /) -> Any:
        return [self.ledger.head]

    def of_group(self, group: str, after: tuple[int, int], most: int) -> Any:
        return self.ledger.of_group(group, after, most)

    def of_partition(self, partition: int, after: tuple[int, int], most: int) -> Any:
        return self.ledger.of_partition(after, most)


#: Orders with money owed, and with a capture that has no result.
OWED, STUCK = "6e2d0f6a-4c1b-4c53-8f2e-1a0b5f7d9c03", "6e2d0f6a-4c1b-4c53-8f2e-1a0b5f7d9c04"


def _repairs() -> list[Message]:
    """A valid request of each repair."""

    def of(order: str, **fields: Any) -> dict[str, Any]:
        name = f"groups/{facts.GROUP}/orders/{order}/payment"
        return {"name": name, "request_id": REQUEST, "reason": "why"} | fields

    charged = payments_service.ORDER
    refund, capture = pd.OPERATION_REFUND, pd.OPERATION_CAPTURE
    accounts = {"from_account": pl.LEDGER_ACCOUNT_MERCHANT, "to_account": pl.LEDGER_ACCOUNT_ADJUSTMENTS}
    found = ProviderOutcome(operation=capture, payment_method="simulated_", **captured("found", 30))
    return [
        po.ListIssuesRequest(parent="groups/-", page_size=1),
        po.RetryCallRequest(**of(OWED, operation=refund)),
        po.GiveUpCallRequest(**of(STUCK, operation=capture, attempt=1)),
        po.ReleaseMemberRequest(**of(STUCK)),
        po.FailMemberRequest(**of(STUCK)),
        po.MarkReturnedOutsideRequest(**of(OWED, amount_minor=1, reference="T1")),
        po.ApproveReturnRequest(**of(charged, hold="stray")),
        po.KeepSuspenseRequest(**of(charged, hold="stray")),
        po.AdjustLedgerRequest(**of(charged, amount_minor=1, currency="CNY", **accounts)),
        po.ApproveAdjustmentRequest(**of(charged, proposal=OTHER)),
        po.ResolveUnknownRequest(**of(STUCK, operation=capture, attempt=1, done=True)),
        po.FeedOutcomeRequest(name=of(charged)["name"], reason="why", outcome=found),
    ]


class PaymentsWorld:
    """The payments service with its real decider, the payments of one group, and the ledger in RocksDB."""

    def __init__(self, directory: Path) -> None:
        self._decider = OperatorView()
        self._inbox = payments_service.Inbox(self._decider)
        view = _LedgerView(directory / "books")
        notifications = notifications_of(stripe_secrets=lambda: (SECRET,), simulated_secret=SECRET, now_s=lambda: NOW_S)
        servicer = payments_service.servicer(self._decider, self._inbox, notifications, view)
        self.servicers = (
            (payments_pb2_grpc.add_PaymentServiceServicer_to_server, servicer),
            (
                operator_pb2_grpc.add_OperatorServiceServicer_to_server,
                operators(self._decider, self._inbox),
            ),
        )
        name = f"groups/{facts.GROUP}/orders/{payments_service.ORDER}/payment"
        parent = f"groups/{facts.GROUP}"
        self.known = {"name": [name], "parent": [parent, "groups/-"], "request_id": [REQUEST, OTHER]}
        notification = {
            "key": f"{payments_service.ORDER}:authorise:1",
            "group": facts.GROUP,
            "status": "STATUS_AUTHORISED",
            "hold": "h",
            "amount_minor": 100,
            "currency": "CNY",
            "capturable_until_ms": TIME_MS * 2,
            "reason": "",
            "action_url": "",
        }
        event = {
            "type": "payment_intent.succeeded",
            "data": {"object": {"id": "pi_1", "status": "succeeded", "amount": 100, "amount_received": 100}},
        }
        self.good = (
            p.GetPaymentRequest(name=name),
            p.ListPaymentsRequest(parent=parent, page_size=1),
            p.RefundPaymentRequest(name=name, request_id=REQUEST, amount_minor=1, currency="CNY"),
            p.NotifyPaymentRequest(provider="simulated", body=json.dumps(notification).encode()),
            p.NotifyPaymentRequest(provider="stripe", body=json.dumps(event).encode()),
            pl.GetBalancesRequest(currency="CNY"),
            pl.ListEntriesRequest(parent=parent, page_size=1),
            pl.ListEntriesRequest(parent="groups/-", start=pl.LedgerPosition(), page_size=1),
            *_repairs(),
        )
        self.reset()
        for offset, value in enumerate(self._decider.log):
            view.ledger.take(SimpleNamespace(offset=offset, key=facts.GROUP.encode(), value=value))
        view.ledger.flush()

    def reset(self) -> None:
        self._inbox.records.clear()
        self._decider._aggregates.clear()
        self._decider.log.clear()
        self._decider.charge(amount=1_000_000)
        self._decider.charge(order="6e2d0f6a-4c1b-4c53-8f2e-1a0b5f7d9c02")
        self._decider.stray()
        self._decider.owe(OWED)
        self._decider.stick(STUCK)

    def signed(self, data: bytes, chance: random.Random) -> bytes:
        """Signs 70% of the requests that are notifications."""
        if chance.random() < 0.3:
            return data
        request = p.NotifyPaymentRequest()
        try:
            request.ParseFromString(data)
        except DecodeError:
            return data
        if request.provider not in ("simulated", "stripe"):
            return data
        digest = hmac.new(SECRET.encode(), f"{NOW_S}.".encode() + request.body, hashlib.sha256).hexdigest()
        header = "Stripe-Signature" if request.provider == "stripe" else "Simprovider-Signature"
        del request.headers[:]
        request.headers.add(name=header, value=f"t={NOW_S},v1={digest}")
        return request.SerializeToString()


WORLDS: Mapping[str, Callable[[Path], World]] = {
    "orders": OrdersWorld,
    "groups": GroupsWorld,
    "payments": PaymentsWorld,
    "inventory": InventoryWorld,
}
