"""Defects planted in the rules: they raise on certain inputs, the same on every machine.

The rules of groups raise for orders with one payment method, those of stock items and allowances for every request of
groups that follows from certain inputs. Every long run therefore covers the product's handling of its own defects.
Every run of a world needs the defects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import GroupEvent

from services.groups.domain import domain
from services.groups.domain.command import Command
from services.groups.domain.decide import Rules
from services.groups.domain.model import State
from services.inventory.domain.allowance.decide import Command as AllowanceCommand
from services.inventory.domain.allowance.domain import AllowanceDomain
from services.inventory.domain.stock.decide import Command as StockCommand
from services.inventory.domain.stock.domain import StockDomain
from tests.simulation.world.shop import DEFECT

#: One cause in so many makes the rules of stock items and allowances raise.
DEFECT_EVERY = 23


class PlantedDefect(RuntimeError):
    """The error of the planted defect."""


@contextmanager
def defective_rules() -> Iterator[None]:
    """Plants the defects."""
    rules: Any = domain.RULES
    sound = dict(rules)
    stock, allowance = StockDomain.decide, AllowanceDomain.decide
    for version, one in sound.items():
        rules[version] = _defective(one)
    StockDomain.decide = staticmethod(_raising(_fails_stock, stock))
    AllowanceDomain.decide = staticmethod(_raising(_fails_allowance, allowance))
    try:
        yield
    finally:
        rules.update(sound)
        StockDomain.decide = staticmethod(stock)
        AllowanceDomain.decide = staticmethod(allowance)


def _defective(sound: Rules) -> Rules:
    def decide(state: State, command: Command, at_ms: int) -> Iterable[GroupEvent]:
        for item in command.items:
            if item.kind in ("opens", "joins") and item.message.placed.payment_method == DEFECT:
                raise PlantedDefect
        return sound.decide(state, command, at_ms)

    return Rules(decide, sound.fault, sound.due)


def _raising(fails: Callable[[Any], bool], decide: Callable[..., Any]) -> Callable[..., Any]:
    def decide_or_raise(state: Any, command: Any, at_ms: int) -> Any:
        if fails(command):
            raise PlantedDefect
        return decide(state, command, at_ms)

    return decide_or_raise


def _fails_stock(command: StockCommand) -> bool:
    """Requests alone: a failure on a return would lose pieces, which is a defect that the audit reports."""
    units = command.message
    asks = command.kind == "group_units" and units.at_least and not (units.returned or units.sold or units.closed)
    return bool(asks) and units.cause % DEFECT_EVERY == 0


def _fails_allowance(command: AllowanceCommand) -> bool:
    asked = command.asked
    return asked is not None and not asked.returned and asked.cause % DEFECT_EVERY == 0
