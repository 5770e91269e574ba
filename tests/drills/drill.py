"""A drill: a fault, the alerts that it fires, and how it is healed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.drills.site import Site

#: Variables of the runbooks' commands, in addition to those of the site.
Variables = Mapping[str, str]
Fault = Callable[[Site], Iterator[Variables]]


@dataclass(frozen=True, slots=True)
class Drill:
    """One fault. Entering the context causes it, leaving heals it."""

    name: str
    alerts: tuple[str, ...]
    fault: Callable[[Site], AbstractContextManager[Variables]]
    #: Seconds in which all alerts have to fire, and in which they have to end after the healing.
    fires_within_s: float
    ends_within_s: float
    #: Whether the next drill may begin before the alerts have ended.
    ends_later: bool


#: All drills, in the order of their definition.
DRILLS: list[Drill] = []


def drill(
    *alerts: str, fires_within_s: float = 45.0, ends_within_s: float = 60.0, ends_later: bool = False
) -> Callable[[Fault], Fault]:
    """Registers a generator that causes a fault, yields variables for the runbooks' commands, and heals the fault."""

    def register(fault: Fault) -> Fault:
        made = Drill(fault.__name__, alerts, contextmanager(fault), fires_within_s, ends_within_s, ends_later)
        DRILLS.append(made)
        return fault

    return register
