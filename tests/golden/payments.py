"""`python -m tests.golden.payments` records golden logs of rules version 2 of payments, once and for all.

It takes the seeds of simulated histories in turn and keeps those that bring an event of payments, or an action of an
operator, that too few kept ones have. Histories with payments of version 1 are left out, and so are the logs of groups.
"""

from __future__ import annotations

from collections import Counter

from groupbuy.payments.v1.decisions_pb2 import OperatorAction, PaymentDecision, PaymentEvent

from shared_kernel import topics
from tests.golden.logs import FOLDER, Logs, write
from tests.simulation.audit.violation import Violation
from tests.simulation.histories.coverage import Coverage
from tests.simulation.histories.plan import plan
from tests.simulation.histories.replay import LOGS
from tests.simulation.world.world import World

VERSION = 2
PATH = FOLDER / f"payments-rules-{VERSION}.jsonl.gz"
#: Of a fault in the rules themselves: those of the product have none that is known.
NEVER = frozenset({"faulted"})
#: Histories with each event and each action; and actions that need several faults at once, of which one suffices.
HISTORIES = 3
RARE = frozenset({"release_member done", "resolve_unknown done"})
KEPT = frozenset(LOGS[topics.PAYMENTS_DECIDER])
MAX_SEEDS = 1_500


def wanted() -> dict[str, int]:
    """The number of histories with each event of payments, and with each action of an operator that was done."""
    events = {field.name for field in PaymentEvent.DESCRIPTOR.oneofs[0].fields} - NEVER
    actions = {f"{field.name} done" for field in OperatorAction.DESCRIPTOR.oneofs[0].fields}
    return {one: 1 if one in RARE else HISTORIES for one in sorted(events | actions)}


def missing(counts: Counter[str]) -> list[str]:
    """Events and actions that too few histories have."""
    return [one for one, least in wanted().items() if counts[one] < least]


def decisions(logs: Logs) -> list[PaymentDecision]:
    """The decisions on payments in a history."""
    found = [records for (topic, _), records in sorted(logs.items()) if topic == topics.PAYMENT_LOG.name]
    return [PaymentDecision.FromString(record.value or b"") for records in found for record in records]


def has(logs: Logs) -> set[str]:
    """Kinds of events in a history, and actions that were done."""
    found: set[str] = set()
    for event in (event for decision in decisions(logs) for event in decision.events):
        found.add(str(event.WhichOneof("body")))
        if event.HasField("operator_acted") and not event.operator_acted.refusal:
            found.add(f"{event.operator_acted.action.WhichOneof('action')} done")
    return found


def of_version(logs: Logs) -> bool:
    """Whether all payments of a history have the version."""
    first = [one.events[0] for one in decisions(logs) if one.version == 1]
    return all(event.rules_selected.rules_version == VERSION for event in first)


def record() -> list[tuple[int, Logs]]:
    """Histories that have all of it between them. Exits if the seeds do not suffice."""
    kept: list[tuple[int, Logs]] = []
    counts: Counter[str] = Counter()
    for seed in range(MAX_SEEDS):
        world = World(plan(seed), Coverage())
        try:
            world.run()
        except Violation:
            # An order with the payment method of the planted defect: such histories hold only with the defect.
            continue
        logs = {name: log for name, log in world.broker.logs.items() if name[0] in KEPT and log}
        found = has(logs)
        if of_version(logs) and found.intersection(missing(counts)):
            counts.update(found)
            kept.append((seed, logs))
        if not missing(counts):
            return kept
    raise SystemExit(f"{MAX_SEEDS} seeds, and too few histories of {missing(counts)}")


if __name__ == "__main__":
    write(PATH, record)
