"""A defect planted in the group's rules: they raise for orders with one payment method, the same on every machine.

Every long run therefore covers the product's handling of its own defects. Every run of a world needs the defect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupEvent

from services.groups.domain import domain
from services.groups.domain.command import Command
from services.groups.domain.decide import Rules
from services.groups.domain.model import State
from tests.simulation.world.shop import DEFECT


class PlantedDefect(RuntimeError):
    """The error of the planted defect."""


@contextmanager
def defective_rules() -> Iterator[None]:
    """Plants the defect."""
    rules: Any = domain.RULES
    sound: Rules = rules[1]

    def decide(state: State, command: Command, at_ms: int) -> Iterable[GroupEvent]:
        for item in command.items:
            if item.kind in ("opens", "joins") and item.message.placed.payment_method == DEFECT:
                raise PlantedDefect
        return sound.decide(state, command, at_ms)

    rules[1] = Rules(decide, sound.fault, sound.due)
    try:
        yield
    finally:
        rules[1] = sound
