"""The script of an evening: orders with group, time and payment method, and the cancellations.

Pure: the same seed makes the same script. Services assign the ids of groups when it is played.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from random import Random
from uuid import UUID

from ops.demo.offers import OFFERS, RUSH, Offer

NAMES = (
    "mei",
    "wei",
    "yuki",
    "ling",
    "hao",
    "sora",
    "jun",
    "fang",
    "ren",
    "xia",
    "bo",
    "aki",
    "lan",
    "tao",
    "hana",
    "qi",
)

#: The number of orders from which the script has the overcrowded group.
ORDERS_WITH_RUSH = 60
#: Shares of all orders.
DECLINED = 0.03
DECLINED_AT_CAPTURE = 0.015
WALLETS = 0.08
LEAVERS = 0.05
REPEATED = 0.03
SECOND_ORDERS = 0.005
COPIES = 5


class Role(Enum):
    """The role of an order in its group."""

    LEADS = "leads"
    JOINS = "joins"
    SOLO = "solo"


class Plot(Enum):
    """The intended course of a group. The services decide the outcome."""

    SOLO = "bought alone"
    SHORT = "too few members"
    REACHES = "reaches a tier"
    FILLS = "fills up"
    LAST_SECOND = "fills in the last second"
    RUSH = "overcrowded"


@dataclass(frozen=True, slots=True)
class Visit:
    """One order. Times are in seconds since the start of the evening."""

    at_s: float
    customer: str
    role: Role
    quantity: int
    payment_method: str
    request_id: str
    #: How many times the same request is sent concurrently.
    copies: int = 1
    #: The time of the cancellation request; None for none.
    cancels_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Party:
    """One group: its leader's visit first, then the joiners'."""

    offer: Offer
    plot: Plot
    visits: tuple[Visit, ...]


@dataclass(frozen=True, slots=True)
class Evening:
    """The whole script."""

    seed: int
    offers: tuple[Offer, ...]
    parties: tuple[Party, ...]
    #: The time at which a service is killed.
    kill_at_s: float
    #: The time of the last deadline.
    ends_at_s: float

    @property
    def orders(self) -> int:
        """The number of distinct orders."""
        return sum(len(party.visits) for party in self.parties)

    def plots(self) -> Counter[Plot]:
        """The number of groups by plot."""
        return Counter(party.plot for party in self.parties)


def arrivals_s(orders: int) -> float:
    """The seconds in which groups open: 60, less for few orders, and more to stay below 100 orders per second."""
    return max(12.0, min(60.0, orders / 30), orders / 100)


def plan(orders: int, seed: int) -> Evening:
    """A script of exactly this many orders, at least 1."""
    if orders < 1:
        raise ValueError("an evening needs at least one order")
    span_s = arrivals_s(orders)
    shop = _Planner(Random(seed), span_s)
    left = orders
    parties: list[Party] = []
    if orders >= ORDERS_WITH_RUSH:
        size = min(RUSH.capacity * 2 + 5, orders // 2)
        parties.append(shop.party(RUSH, Plot.RUSH, size, opens_s=span_s * 0.6))
        left -= size
    while left:
        offer = shop.random.choices(OFFERS, [offer.weight for offer in OFFERS])[0]
        plot = shop.random.choices(*zip(*_PLOTS.items(), strict=True))[0]
        size = min(shop.size(offer, plot), left)
        parties.append(shop.party(offer, plot, size))
        left -= size
    parties.sort(key=lambda party: party.visits[0].at_s)
    ends_s = max(party.visits[0].at_s + party.offer.window_s for party in parties)
    return Evening(seed, OFFERS, tuple(parties), kill_at_s=span_s * 0.5, ends_at_s=ends_s)


_PLOTS = {Plot.SOLO: 14, Plot.SHORT: 14, Plot.REACHES: 42, Plot.FILLS: 22, Plot.LAST_SECOND: 8}


@dataclass(slots=True)
class _Planner:
    random: Random
    span_s: float
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def size(self, offer: Offer, plot: Plot) -> int:
        first = offer.tiers[0][0]
        match plot:
            case Plot.SOLO:
                return 1
            case Plot.SHORT:
                return self.random.randint(1, first - 1)
            case Plot.REACHES:
                # Small groups are more frequent than large ones.
                return round(self.random.triangular(first, offer.capacity - 1, first))
            case _:
                # Up to two orders more than seats.
                return offer.capacity + self.random.randint(0, 2)

    def party(self, offer: Offer, plot: Plot, size: int, opens_s: float | None = None) -> Party:
        # Most groups open in the middle of the evening.
        opens = self.random.triangular(0.0, self.span_s) if opens_s is None else opens_s
        role = Role.SOLO if plot is Plot.SOLO else Role.LEADS
        visits = [self._visit(opens, role, offer, plot)]
        for at_s in sorted(self._join_times(offer, plot, opens, size - 1)):
            again = visits[0].customer if self.random.random() < SECOND_ORDERS else None
            visits.append(self._visit(at_s, Role.JOINS, offer, plot, again))
        return Party(offer, plot, tuple(visits))

    def _join_times(self, offer: Offer, plot: Plot, opens_s: float, joiners: int) -> Sequence[float]:
        window_s = offer.window_s
        match plot:
            case Plot.RUSH:
                # The link was shared in a large chat: all join within 0.15 s.
                return [opens_s + 2.0 + self.random.uniform(0.0, 0.15) for _ in range(joiners)]
            case Plot.LAST_SECOND:
                late = max(1, joiners // 2)
                early = [opens_s + self.random.uniform(0.2, 0.7 * window_s) for _ in range(joiners - late)]
                # Some join just after the deadline.
                return early + [opens_s + window_s + self.random.uniform(-0.9, 0.1) for _ in range(min(late, joiners))]
            case _:
                # Most friends join soon, some much later.
                reach_s = window_s * 0.8
                return [opens_s + 0.2 + min(self.random.expovariate(4 / window_s), reach_s) for _ in range(joiners)]

    def _visit(self, at_s: float, role: Role, offer: Offer, plot: Plot, customer: str | None = None) -> Visit:
        number = next(self._numbers)
        name = self.random.choice(NAMES)
        leaves = plot not in {Plot.RUSH, Plot.SOLO} and self.random.random() < LEAVERS
        return Visit(
            at_s=at_s,
            customer=customer or f"{name}-{number:04d}",
            role=role,
            quantity=self.random.choices((1, 2, 3), (85, 12, 3))[0],
            payment_method=self._payment_method(number),
            request_id=str(UUID(int=self.random.getrandbits(128), version=4)),
            copies=COPIES if self.random.random() < REPEATED else 1,
            cancels_at_s=at_s + self.random.uniform(0.5, offer.window_s * 0.6) if leaves else None,
        )

    def _payment_method(self, number: int) -> str:
        chance = self.random.random()
        if chance < DECLINED:
            return f"card_{number}_declined"
        if chance < DECLINED + DECLINED_AT_CAPTURE:
            return f"card_{number}_decline_capture"
        if chance < DECLINED + DECLINED_AT_CAPTURE + WALLETS:
            return f"wallet_{number}"
        return f"card_ok_{number}"
