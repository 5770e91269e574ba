"""Runs one plan in a world, and reports its counts and the violation, if any. It draws no random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256

from tests.simulation.audit.violation import Violation
from tests.simulation.histories.coverage import Coverage, counted_transitions
from tests.simulation.histories.plan import Plan
from tests.simulation.mutants.defects import defective_rules
from tests.simulation.world.broker import Broker
from tests.simulation.world.world import Trace, World


@dataclass(frozen=True, slots=True)
class Played:
    """The result of a plan."""

    seed: int
    #: Records of both inboxes at the end.
    inputs: int
    steps: int
    violation: Violation | None
    broker: Broker


@contextmanager
def prepared(coverage: Coverage) -> Iterator[None]:
    """Plants the defect and counts transitions. Every run of a plan needs it."""
    with ExitStack() as stack:
        stack.enter_context(defective_rules())
        stack.enter_context(counted_transitions(coverage))
        yield


def play(plan: Plan, coverage: Coverage, trace: Trace | None = None) -> Played:
    """Runs a plan."""
    world = World(plan, coverage, trace)
    violation = None
    try:
        world.run()
    except Violation as found:
        violation = found
    return Played(plan.seed, world.auditor.inputs, world.steps, violation, world.broker)


def fingerprint(broker: Broker) -> str:
    """A digest of all records of a broker, with their headers."""
    whole = sha256()
    for (topic, partition), log in sorted(broker.logs.items()):
        for record in log:
            head = f"{topic} {partition} {record.offset} {record.timestamp} {list(record.headers)}"
            whole.update(head.encode() + b"|" + (record.key or b"") + b"|" + (record.value or b""))
    return whole.hexdigest()
