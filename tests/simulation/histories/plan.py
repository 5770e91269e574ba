"""The plan of one simulated history: its acts and faults, drawn from the seed before it runs.

An act is a record that a client or merchant appends. A plan without some acts and faults is a plan again, which is how
a failing history is shrunk. A plan does not depend on answers of the system.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from groupbuy.groups.v1.campaigns_pb2 import Campaign

from tests.simulation.histories.sale import STOCK, make_sale, stock_acts
from tests.simulation.world.shop import Act, GroupPlan, group_plan

#: Minimum number of orders of one seed. An order leads to about ten inputs.
ORDERS = 14
GROUPS = 3
#: Spare groups, as a multiple of the groups. They are used if a history stays short.
SPARE = 3
#: Minimum number of inputs of a history. If all leaders were refused, spare groups follow.
MIN_INPUTS = 200
#: The same of a sale, most of whose orders may be refused because it is sold out.
MIN_SALE_INPUTS = 100
PARTITIONS = 2
#: Share of the histories with a restart of all processes followed by days without calls.
NIGHTS = 0.5
#: Share of the histories with a constant traffic.
TRAFFIC = 0.1
#: Share of the histories with a call that fails for days, which takes hundreds of retries.
STUCK = 0.02
#: What the provider, its users and operators do by themselves, and how often in one history.
PROVIDER_LIFE = (
    "refund_reversed", "refund_reversed", "succeeds_late", "dispute", "refund_by_hand", "end_hold_by_hand", "fee",
    "late_sale", "operator", "operator", "attend",
)  # fmt: skip
LIVES = 5
#: Rows of the payments' table to aim at in one history.
AIMS = 4
START_MS = 1_760_000_000_000
#: The setting of payments: age from which holds are checked before their group closes.
CHECK_HOLDS_AFTER_MS = 60_000

PROCESS_FAULTS = ("crash", "crash", "half", "late", "zombie", "zombie", "rebalance", "slow")
OTHER_FAULTS = (
    "checkpoint", "checkpoint", "lose_state", "clock_back", "clock_ahead", "service_ahead", "service_behind",
    "broker_away", "lost_tick", "lapse_reported", "lapse_silent", "second_hold", "unknown_money", "unexpected_capture",
    "nonsense", "forge", "forge",
)  # fmt: skip
#: One history in so many is a sale of pieces.
SALE_EVERY = 8
#: Further faults of a sale.
SALE_FAULTS = (*PROCESS_FAULTS, "forge_for_admitting")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault after a number of steps."""

    step: int
    kind: str
    #: Selects processor, partition, hold … among the existing ones.
    pick: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The acts and faults of one history."""

    seed: int
    groups: tuple[GroupPlan, ...]
    acts: tuple[Act, ...]
    faults: tuple[Fault, ...]
    #: Acts at a group's deadline, by group. Their times are milliseconds after it.
    at_deadline: dict[str, tuple[Act, ...]] = field(default_factory=dict)
    #: Acts of the spare groups. Their times count from the end of the others.
    spare: tuple[Act, ...] = ()
    #: Whether the groups sell pieces of a stock item or have limits for each customer.
    sale: bool = False

    @property
    def min_inputs(self) -> int:
        """Minimum number of inputs of the history."""
        return MIN_SALE_INPUTS if self.sale else MIN_INPUTS

    def __len__(self) -> int:
        """Number of acts and faults."""
        return len(self._all_acts()) + len(self.faults)

    def keeping(self, kept: Collection[int]) -> Plan:
        """The plan with some acts and faults only. They are numbered: acts, acts at deadlines, spare acts, faults."""
        number = count()
        return replace(
            self,
            acts=tuple(act for act in self.acts if next(number) in kept),
            at_deadline={
                group: tuple(act for act in late if next(number) in kept) for group, late in self.at_deadline.items()
            },
            spare=tuple(act for act in self.spare if next(number) in kept),
            faults=tuple(fault for fault in self.faults if next(number) in kept),
        )

    def of_groups(self, groups: Collection[str]) -> list[int]:
        """Numbers of the acts of some groups, of those for the stock item, and of all faults."""
        acts = self._all_acts()
        kept = {*groups, STOCK}
        return [number for number in range(len(self)) if number >= len(acts) or acts[number].group in kept]

    def spare_by_group(self) -> list[list[Act]]:
        """The spare acts, one list for each group."""
        found: dict[str, list[Act]] = {}
        for act in self.spare:
            found.setdefault(act.group, []).append(act)
        return list(found.values())

    def _all_acts(self) -> list[Act]:
        return [*self.acts, *(act for late in self.at_deadline.values() for act in late), *self.spare]


def history_plan(seed: int) -> Plan:
    """The plan of a seed in a run of many: a sale now and then."""
    return plan(seed, sale=seed % SALE_EVERY == SALE_EVERY - 1)


def plan(seed: int, *, sale: bool = False) -> Plan:
    """The plan of a seed. The groups of a sale share its campaign."""
    chance = Random(seed)
    campaign = make_sale(chance, START_MS) if sale else None
    groups = _groups(chance, seed, 0, campaign)
    steps = 40 * sum(group.orders for group in groups)
    faults = [Fault(chance.randrange(20, steps), kind, chance.getrandbits(24)) for kind in _kinds(chance)]
    # A generator of its own, so that the other faults of a seed do not change.
    night = Random(seed ^ 0xDA2C)
    if night.random() < NIGHTS:
        faults.append(Fault(night.randrange(20, steps), "night", night.getrandbits(24)))
    if night.random() < TRAFFIC:
        faults.append(Fault(night.randrange(20, steps), "traffic", night.getrandbits(24)))
    # So do these.
    life = Random(seed ^ 0x11FE)
    for kind in [life.choice(PROVIDER_LIFE) for _ in range(LIVES)]:
        faults.append(Fault(life.randrange(steps // 4, steps), kind, life.getrandbits(24)))
    if life.random() < STUCK:
        faults.append(Fault(life.randrange(20, steps), "stuck", life.getrandbits(24)))
    acts = _acts(groups)
    if sale:
        faults += [Fault(chance.randrange(20, steps), kind, chance.getrandbits(24)) for kind in SALE_FAULTS]
        acts = tuple(sorted((*stock_acts(chance), *acts), key=lambda act: act.at_ms))
    faults.sort(key=lambda fault: fault.step)
    more: list[GroupPlan] = []
    for _ in range(SPARE):
        more += _groups(chance, seed, len(groups) + len(more), campaign)
    late = {group.group: tuple(group.late) for group in (*groups, *more) if group.late}
    return Plan(seed, (*groups, *more), acts, tuple(faults), late, _acts(more), sale)


def _groups(chance: Random, seed: int, first: int, sale: Campaign | None) -> list[GroupPlan]:
    groups: list[GroupPlan] = []
    orders = 0
    while orders < ORDERS or len(groups) < GROUPS:
        made = group_plan(chance, seed, first + len(groups), ORDERS - orders, sale)
        groups.append(made)
        orders += made.orders
    return groups


def _acts(groups: list[GroupPlan]) -> tuple[Act, ...]:
    return tuple(sorted((act for group in groups for act in group.acts), key=lambda act: act.at_ms))


def _kinds(chance: Random) -> list[str]:
    return (
        [chance.choice(PROCESS_FAULTS) for _ in range(7)]
        + [chance.choice(OTHER_FAULTS) for _ in range(7)]
        + ["unusual_result"] * 4
        + ["aim"] * AIMS
        + ["forge_for_waitlisted"]
    )
