"""What will be asked of one simulated system, and what will go wrong: all of it drawn from the seed before it runs.

A plan is a list of acts (records that somebody outside appends) and of faults. Leaving some out gives another plan,
which is how a failing history is made small. Must never know what the system answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from tests.simulation.shop import Act, GroupPlan, group_plan

#: Orders of one seed, at least; an order leads to about ten inputs.
ORDERS = 36
GROUPS = 4
PARTITIONS = 2
START_MS = 1_760_000_000_000

PROCESS_FAULTS = ("crash", "crash", "half", "late", "zombie", "zombie", "rebalance", "slow")
OTHER_FAULTS = (
    "checkpoint", "checkpoint", "lose_state", "clock_back", "clock_ahead", "service_ahead", "service_behind",
    "broker_away", "lost_tick", "lapse_told", "lapse_silent", "second_hold", "unknown_money", "taken_unasked",
    "nonsense",
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

    def without(self, acts: Sequence[Act] = (), faults: Sequence[Fault] = ()) -> Plan:
        """The plan without some of it."""
        gone = set(map(id, acts))
        return replace(
            self,
            acts=tuple(act for act in self.acts if id(act) not in gone),
            faults=tuple(fault for fault in self.faults if fault not in faults),
            at_deadline={
                group: tuple(act for act in late if id(act) not in gone) for group, late in self.at_deadline.items()
            },
        )

    def all_acts(self) -> list[Act]:
        """Acts, those at the deadlines last."""
        return [*self.acts, *(act for late in self.at_deadline.values() for act in late)]


def plan(seed: int) -> Plan:
    """The plan of a seed."""
    chance = Random(seed)
    groups: list[GroupPlan] = []
    orders = 0
    while orders < ORDERS or len(groups) < GROUPS:
        made = group_plan(chance, seed, len(groups), ORDERS - orders)
        groups.append(made)
        orders += made.orders
    acts = sorted((act for group in groups for act in group.acts), key=lambda act: act.at_ms)
    steps = 40 * orders
    faults = [
        Fault(chance.randrange(20, steps), chance.choice(PROCESS_FAULTS), chance.getrandbits(24)) for _ in range(7)
    ]
    faults += [
        Fault(chance.randrange(20, steps), chance.choice(OTHER_FAULTS), chance.getrandbits(24)) for _ in range(7)
    ]
    faults.sort(key=lambda fault: fault.step)
    return Plan(
        seed, tuple(groups), tuple(acts), tuple(faults), {group.group: group.late for group in groups if group.late}
    )
