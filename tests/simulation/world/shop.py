"""Acts of shoppers and of the shop, group by group, from the leader's order to the last one after the deadline.

Shoppers send duplicates, cancel at any time, join the wrong group, and arrive together at the deadline. The acts do not
depend on responses of the system.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import NamedTuple

from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import CancelGroupCommand, GroupInput
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.orders.v1.facts_pb2 import OrderFact, OrderPlaced

from services.groups.processors.sequencer import CAMPAIGN_HEADER
from services.orders.domain.ids import group_id, order_id
from shared_kernel import topics
from tests.scenarios.facts import cancel_requested
from tests.scenarios.inputs import refund_command
from tests.simulation.histories.offers import make_campaign
from tests.simulation.world.broker import Headers
from tests.simulation.world.forged_records import FORGED_EVENTS, forged_payment_event

METHODS = (
    *("card_ok",) * 22, *("card_ok_declined",) * 2, *("card_ok_decline_capture",) * 2, *("card_ok_action",) * 3,
    *("wallet_ok",) * 4, "wallet_ok_declined", "wallet_ok_action", "card_ok_short",
)  # fmt: skip
#: A payment method for which the planted defect makes the rules fail.
DEFECT = "card_defect"
#: Customers of a sale, who order in several of its groups.
SALE_CUSTOMERS = 9
#: An unknown field, as a newer version might add one.
NEWER = b"\xaa\x3f\x05newer"


class Act(NamedTuple):
    """A record that is appended at a time."""

    at_ms: int
    label: str
    topic: str
    group: str
    value: bytes
    headers: Headers = ()
    #: The order that it names, if any.
    order: str = ""


@dataclass(slots=True)
class GroupPlan:
    """The acts of one group."""

    group: str
    campaign: Campaign
    acts: list[Act] = field(default_factory=list)
    #: Acts around the deadline; `at_ms` counts from it.
    late: tuple[Act, ...] = ()
    orders: int = 0


def group_plan(chance: Random, seed: int, index: int, wanted: int, sale: Campaign | None = None) -> GroupPlan:
    """Plans the acts of one group. `wanted` is the number of orders that the seed still needs.

    The groups of a sale share its campaign and its customers.
    """
    return _Script(chance, seed, index, wanted, sale).write()


class _Script:
    """Draws the acts of one group."""

    def __init__(self, chance: Random, seed: int, index: int, wanted: int, sale: Campaign | None) -> None:
        self.chance = chance
        self.index = index
        self.wanted = wanted
        self.sale = sale is not None
        if sale is None:
            self.name = f"c{seed % 7}-{index}"
            self.campaign = make_campaign(chance, self.name)
        else:
            self.name = sale.name.removeprefix("campaigns/")
            self.campaign = sale
        self.leader = self._customer(0)
        self.group = group_id(self.leader, f"r{seed}-{index}")
        self.start_ms = chance.randrange(600_000)
        self.window_ms = self.campaign.window.seconds * 1_000
        self.solo = index > 1 and chance.random() < 0.12
        self.customers = [self.leader]
        self.plan = GroupPlan(self.group, self.campaign)
        self.late: list[Act] = []
        #: Orders that forged events may name. Orders that need a confirmation are excluded: after a forged release, the
        #: shopper would never confirm, and the provider would be polled for ever.
        self.forgeable: list[str] = []

    def write(self) -> GroupPlan:
        self._edit_campaign()
        size = self.campaign.capacity + self.chance.choice(
            (2, 3, 4, 6) if self.campaign.waitlist else (-1, 0, 1, 2, 3, 6)
        )
        size = 2 if self.solo else max(2, min(size, max(self.wanted, 2) + 4))
        self._lead()
        for number in range(1, size):
            self._join(number)
        self._shop()
        self._forge()
        self.plan.late = tuple(self.late)
        self.plan.orders = size
        return self.plan

    def _customer(self, number: int) -> str:
        return f"u{self.chance.randrange(SALE_CUSTOMERS)}" if self.sale else f"u{self.index}-{number}"

    # Acts -------------------------------------------------------------------------------------------------------

    def add(self, at_ms: int, label: str, topic: str, value: bytes, headers: Headers = (), order: str = "") -> None:
        self.plan.acts.append(Act(at_ms, label, topic, self.group, value, headers, order))

    def _edit_campaign(self) -> None:
        campaign = self.campaign
        if self.chance.random() < 0.1 and not self.sale:
            # As an older version of the service wrote it.
            for name in ("rules_version", "revision"):
                campaign.ClearField(name)
            self._publish(0, "old schema", campaign)
        else:
            self._publish(0, "campaign", campaign)
        if self.chance.random() < 0.25:
            edited = Campaign()
            edited.CopyFrom(campaign)
            edited.revision += 1
            edited.solo_price_minor += 1
            edited.tiers[0].unit_price_minor += 1
            edited.archived = self.chance.random() < 0.2
            self._publish(self.start_ms + self.chance.randint(-5_000, 5_000), "campaign edited", edited)

    def _publish(self, at_ms: int, label: str, campaign: Campaign) -> None:
        self.add(max(at_ms, 0), label, topics.CAMPAIGNS.name, campaign.SerializeToString(), (), self.name)

    def _order(self, customer: str, number: int, **changes: object) -> OrderFact:
        chance = self.chance
        request = f"q{number}"
        order = order_id(self.group, customer, request)
        most = self.campaign.solo_price_minor + (1 if chance.random() < 0.9 else 0)
        quantity = chance.choice((1, 1, 1, 2, 3))
        odd = chance.random()
        fields: dict[str, object] = {
            "campaign": self.name,
            "quantity": chance.choice((0, 100)) if odd < 0.02 else quantity,
            "currency": "USD" if 0.02 < odd < 0.035 else "EUR",
            "max_unit_price_minor": self.campaign.tiers[-1].unit_price_minor - 1 if 0.035 < odd < 0.06 else most,
            "payment_method": chance.choice(METHODS),
            "request_id": request,
        }
        fields |= changes
        placed = OrderPlaced(**fields)  # type: ignore[arg-type]
        if not placed.payment_method.endswith("_action"):
            self.forgeable.append(order)
        placed.request_sha256 = sha256(placed.SerializeToString()).digest()
        return OrderFact(order=order, group=self.group, customer=customer, placed=placed)

    def _lead(self) -> None:
        changes = {"campaign": "nothing-such"} if self.chance.random() < 0.02 else {}
        fact = self._order(self.leader, 0, opens_group=True, solo=self.solo, quantity=1, **changes)
        opens = [(CAMPAIGN_HEADER, fact.placed.campaign.encode())]
        self._place(fact, self.start_ms, opens)
        if self.chance.random() < 0.1:
            self._cancel(fact, self.start_ms + self.chance.randint(-2_000, self.window_ms))

    def _join(self, number: int) -> None:
        chance = self.chance
        again = chance.random() < 0.08
        customer = chance.choice(self.customers) if again else self._customer(number)
        self.customers.append(customer)
        odd = chance.random()
        changes: dict[str, object] = {"campaign": f"{self.name}x"} if odd < 0.03 else {}
        if 0.03 < odd < 0.05:
            changes["payment_method"] = DEFECT
        fact = self._order(customer, number, **changes)
        headers: Headers = ()
        if 0.05 < odd < 0.07:
            # A second order that opens the same group.
            fact.placed.opens_group = True
            headers = [(CAMPAIGN_HEADER, self.name.encode())]
        if chance.random() < 0.3:
            at_ms = chance.choice((-3, -2, -1, -1, 0, 0, 1))
            act = Act(
                at_ms, "at the deadline", topics.ORDERS.name, self.group, fact.SerializeToString(), (), fact.order
            )
            self.late.append(act)
            return
        # Some orders arrive before the group is open. With a waitlist, most arrive early enough to wait.
        soon = self.campaign.waitlist and chance.random() < 0.7
        last_ms = self.window_ms // 4 if soon else self.window_ms + 20_000
        self._place(fact, self.start_ms + chance.randint(-1_000, last_ms), headers)

    def _place(self, fact: OrderFact, at_ms: int, headers: Headers = ()) -> None:
        chance = self.chance
        at_ms = max(at_ms, 0)
        value = fact.SerializeToString()
        subject = [("ce_subject", f"groups/{self.group}/orders/{fact.order}".encode()), *headers]
        odd = chance.random()
        if odd < 0.02:
            self.add(at_ms, "poison record", topics.ORDERS.name, b"\xff\xff" + value[:9], subject, fact.order)
            if chance.random() < 0.5:
                self.add(at_ms + 1, "poison record", topics.ORDERS.name, b"\xff\xff\xff")
            return
        if odd < 0.05:
            value += NEWER
            self.add(at_ms, "newer schema", topics.ORDERS.name, value, subject, fact.order)
        elif odd < 0.07:
            fact.placed.ClearField("request_sha256")
            value = fact.SerializeToString()
            self.add(at_ms, "old schema", topics.ORDERS.name, value, subject, fact.order)
        else:
            self.add(at_ms, "placed", topics.ORDERS.name, value, subject, fact.order)
        for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 3))):
            later_ms = at_ms + chance.choice((0, 1, 500, 5_000, 400_000))
            self.add(later_ms, "request repeated", topics.ORDERS.name, value, subject, fact.order)
        if chance.random() < 0.06:
            other = OrderFact()
            other.CopyFrom(fact)
            other.placed.quantity += 1
            other.placed.request_sha256 = sha256(b"other").digest()
            later_ms = at_ms + chance.choice((0, 1, 5_000))
            self.add(
                later_ms,
                "request with another payload",
                topics.ORDERS.name,
                other.SerializeToString(),
                subject,
                fact.order,
            )
        if chance.random() < 0.13:
            self._cancel(fact, at_ms + chance.choice((-1_000, 0, 1, 300, 20_000, 200_000, self.window_ms)))
        if chance.random() < 0.12:
            self._refund(fact.order, at_ms + chance.randint(0, 2 * self.window_ms))

    def _cancel(self, fact: OrderFact, at_ms: int) -> None:
        wish = cancel_requested(fact.order, group=self.group, customer=fact.customer)
        for _ in range(self.chance.choice((1, 1, 2))):
            self.add(max(at_ms, 0), "cancelled", topics.ORDERS.name, wish.SerializeToString(), (), fact.order)

    def _refund(self, order: str, at_ms: int) -> None:
        for amount in self.chance.choice(((0,), (100,), (100, 0), (1_000, 1_000), (50, 70, 10**9))):
            refund = f"refund-{order[:8]}-{amount}"
            value = refund_command(order, refund, amount, request_sha256=b"x").SerializeToString()
            for _ in range(self.chance.choice((1, 1, 2))):
                self.add(at_ms, "refund", topics.PAYMENT_INBOX.name, value, (), order)

    def _shop(self) -> None:
        if self.chance.random() < 0.12:
            at_ms = self.start_ms + self.chance.randint(0, self.window_ms + 60_000)
            value = GroupInput(cancel_group=CancelGroupCommand(reason="sold out")).SerializeToString()
            self.add(at_ms, "cancel_group", topics.GROUP_INBOX.name, value)
        if self.chance.random() < 0.2:
            value = GroupInput(tick=Tick(due_ms=1)).SerializeToString()
            self.late.append(Act(self.chance.choice((-1, 0, 0)), "tick", topics.GROUP_INBOX.name, self.group, value))

    def _forge(self) -> None:
        """Adds forged payment events to the group's inbox."""
        if self.chance.random() > 0.12:
            return
        for _ in range(4):
            order = self.chance.choice((*self.forgeable, "stranger", "stranger"))
            price = self.campaign.tiers[0].unit_price_minor
            value = forged_payment_event(self.chance.choice(FORGED_EVENTS), self.group, order, price)
            at_ms = self.start_ms + self.chance.randint(-500, self.window_ms + 10_000)
            self.add(max(at_ms, 0), "forged payment event", topics.GROUP_INBOX.name, value, (), order)
        if self.chance.random() < 0.5:
            # The order that a forged event named is placed after all.
            fact = OrderFact(order="stranger", group=self.group, customer="stranger")
            fact.placed.campaign = self.name
            fact.placed.opens_group = self.chance.random() < 0.5
            fact.placed.request_sha256 = b"stranger"
            at_ms = self.start_ms + self.chance.randint(0, self.window_ms)
            self.add(at_ms, "placed", topics.ORDERS.name, fact.SerializeToString(), (), "stranger")
