"""What will be asked of one simulated system, and what will go wrong: all of it drawn from the seed before it runs.

A plan is a list of acts (records that somebody outside appends) and of faults. Leaving some out gives another plan,
which is how a failing history is made small. Must never know what the system answers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from tests.simulation.world.shop import Act, GroupPlan, group_plan

#: Orders of one seed, at least; an order leads to about ten inputs.
ORDERS = 14
GROUPS = 3
#: Times as many groups that stand by, should a history stay short.
SPARE = 3
#: Inputs of a history, at least: where the groups' leaders were all turned away, more groups follow.
MIN_INPUTS = 200
PARTITIONS = 2
#: Share of the histories in which everything is restarted and then nobody does anything for days.
NIGHTS = 0.5
#: Rows of the payments' table that are aimed at.
AIMS = 4
START_MS = 1_760_000_000_000

PROCESS_FAULTS = ("crash", "crash", "half", "late", "zombie", "zombie", "rebalance", "slow")
OTHER_FAULTS = (
    "checkpoint", "checkpoint", "lose_state", "clock_back", "clock_ahead", "service_ahead", "service_behind",
    "broker_away", "lost_tick", "lapse_told", "lapse_silent", "second_hold", "unknown_money", "taken_unasked",
    "nonsense", "lie", "lie",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong after so many steps."""

    step: int
    kind: str
    #: Which processor, partition, hold …, picked by this number among those there are.
    pick: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One history to be."""

    seed: int
    groups: tuple[GroupPlan, ...]
    acts: tuple[Act, ...]
    faults: tuple[Fault, ...]
    #: Acts at a group's deadline, by group: milliseconds after it, and the act.
    at_deadline: dict[str, tuple[Act, ...]] = field(default_factory=dict)
    #: Acts of the groups that follow where too little happened; counted from then.
    spare: tuple[Act, ...] = ()

    def __len__(self) -> int:
        """Acts and faults."""
        return len(self._all_acts()) + len(self.faults)

    def keeping(self, kept: Collection[int]) -> Plan:
        """The plan with some of it only. Numbers: its acts, those at the deadlines, those to spare, then its faults."""
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
        """Numbers of the acts of some groups, and of all faults."""
        acts = self._all_acts()
        return [number for number in range(len(self)) if number >= len(acts) or acts[number].group in groups]

    def spare_by_group(self) -> list[list[Act]]:
        """The acts to spare, a list a group."""
        found: dict[str, list[Act]] = {}
        for act in self.spare:
            found.setdefault(act.group, []).append(act)
        return list(found.values())

    def _all_acts(self) -> list[Act]:
        return [*self.acts, *(act for late in self.at_deadline.values() for act in late), *self.spare]


def plan(seed: int) -> Plan:
    """The plan of a seed."""
    chance = Random(seed)
    groups = _groups(chance, seed, 0)
    steps = 40 * sum(group.orders for group in groups)
    faults = [Fault(chance.randrange(20, steps), kind, chance.getrandbits(24)) for kind in _kinds(chance)]
    # Drawn apart, so that a seed's other faults stay what they were.
    night = Random(seed ^ 0xDA2C)
    if night.random() < NIGHTS:
        faults.append(Fault(night.randrange(20, steps), "night", night.getrandbits(24)))
    faults.sort(key=lambda fault: fault.step)
    more: list[GroupPlan] = []
    for _ in range(SPARE):
        more += _groups(chance, seed, len(groups) + len(more))
    late = {group.group: tuple(group.late) for group in (*groups, *more) if group.late}
    return Plan(seed, (*groups, *more), _acts(groups), tuple(faults), late, _acts(more))


def _groups(chance: Random, seed: int, first: int) -> list[GroupPlan]:
    groups: list[GroupPlan] = []
    orders = 0
    while orders < ORDERS or len(groups) < GROUPS:
        made = group_plan(chance, seed, first + len(groups), ORDERS - orders)
        groups.append(made)
        orders += made.orders
    return groups


def _acts(groups: list[GroupPlan]) -> tuple[Act, ...]:
    return tuple(sorted((act for group in groups for act in group.acts), key=lambda act: act.at_ms))


def _kinds(chance: Random) -> list[str]:
    return (
        [chance.choice(PROCESS_FAULTS) for _ in range(7)]
        + [chance.choice(OTHER_FAULTS) for _ in range(7)]
        + ["odd_answer"] * 4
        + ["aim"] * AIMS
        + ["lie_to_waiting"]
    )
