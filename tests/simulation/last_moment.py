"""Completion against expiry in the same millisecond: many trials of the last payment and the deadline at once.

Each trial is one group that needs all its members. The missing payments, ticks, and duplicates of both arrive around
the deadline in any order, sometimes while the broker's clock steps back. The inbox is decided twice: by one owner, and
in batches with a new owner for each. The group has to complete or expire exactly once, as the trial's own rule
predicts. The last line of output is a JSON object. Exit code 1: a trial failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from random import Random

from groupbuy.groups.v1.campaigns_pb2 import Tier
from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.log.v1.log_pb2 import Tick

from eventlog.core.partition_state import PartitionState
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State
from tests.scenarios.facts import campaign, duration, placed
from tests.scenarios.inputs import order_fact, payments_decided
from tests.scenarios.payment_events import hold_authorised
from tests.simulation.world.broker import Record

KEY = "0f5fd1f1-2f7a-5b41-9a45-6f3a4c6a6d10"
OPENED_MS = 1_760_000_000_000
WINDOW_MS = 60_000
DEADLINE_MS = OPENED_MS + WINDOW_MS
PRICE = 900
CHUNK = 1_000


def _placed(number: int, members: int) -> bytes:
    order = f"o{number}"
    fact = placed(
        order,
        group=KEY,
        customer=f"c{number}",
        currency="EUR",
        max_unit_price_minor=PRICE,
        request_sha256=order.encode(),
        opens_group=number == 0,
    )
    if number:
        return order_fact(fact).SerializeToString()
    offer = campaign(
        name="campaigns/mug",
        currency="EUR",
        solo_price_minor=PRICE + 1,
        capacity=members,
        tiers=[Tier(members=members, unit_price_minor=PRICE)],
        window=duration(WINDOW_MS),
        hold_window=duration(WINDOW_MS),
        revision=1,
    )
    return order_fact(fact, offer).SerializeToString()


def _pays(number: int) -> bytes:
    held = hold_authorised(f"o{number}", PRICE, hold=f"h{number}", currency="EUR")
    return payments_decided(KEY, held).SerializeToString()


_TICK = GroupInput(tick=Tick(due_ms=DEADLINE_MS)).SerializeToString()
_PLACED = {(number, members): _placed(number, members) for members in range(2, 5) for number in range(members)}
_PAID = [_pays(number) for number in range(4)]


def inbox(chance: Random) -> tuple[list[Record], bool]:
    """The inputs of one group, and whether the group has to complete."""
    members = chance.randint(2, 4)
    early = chance.randrange(members)
    order = chance.sample(range(members), members)
    first = [(OPENED_MS, _PLACED[number, members]) for number in range(members)]
    first += [(OPENED_MS + 1, _PAID[number]) for number in order[:early]]
    missing = order[early:]
    last = [_PAID[number] for number in missing]
    last += [chance.choice((_TICK, _PAID[chance.choice(order)])) for _ in range(chance.randint(0, 4))]
    chance.shuffle(last)
    # Most records arrive within a millisecond of the deadline. Unsorted times are a broker clock that steps back.
    times = [DEADLINE_MS + chance.choice((-1, -1, -1, 0, 0, 1)) for _ in last]
    if chance.random() < 0.8:
        times.sort()
    late = list(zip(times, last, strict=True))
    values = [*first, *late, (DEADLINE_MS + 2, _TICK), *((DEADLINE_MS + 3, paid) for paid in last)]
    records = [
        Record("inbox", 0, offset, at_ms, KEY.encode(), value, ()) for offset, (at_ms, value) in enumerate(values)
    ]
    return records, _completes(late, set(order[:early]), members)


def _completes(late: list[tuple[int, bytes]], paid: set[int], members: int) -> bool:
    """Whether the last payment precedes the first record at or after the deadline."""
    for at_ms, value in late:
        if at_ms >= DEADLINE_MS:
            return False
        if value is not _TICK:
            paid.add(_PAID.index(value))
            if len(paid) == members:
                return True
    return False


def in_one_piece(records: list[Record]) -> list[bytes]:
    """Decides the inbox with one owner."""
    state: PartitionState[State] = PartitionState(GroupDomain(), 0)
    return [decision for record in records if (decision := state.decide(record)) is not None]


def by_owners_in_turn(records: list[Record], chance: Random) -> list[bytes]:
    """Decides the inbox in batches, each with a new owner that folds the log and reads some decided inputs again."""
    decisions: list[bytes] = []
    at = 0
    while at < len(records):
        state: PartitionState[State] = PartitionState(GroupDomain(), 0)
        for offset, decision in enumerate(decisions):
            state.apply(Record("log", 0, offset, 0, KEY.encode(), decision, ()))
        end = at + chance.randint(1, len(records))
        for record in records[max(0, at - chance.randint(0, 3)) : end]:
            decision_now = state.decide(record)
            if decision_now is not None:
                decisions.append(decision_now)
        at = end
    return decisions


def trial(number: int) -> str:
    """Runs a trial. Returns `completed`, `expired`, or the failure."""
    chance = Random(number)
    records, completes = inbox(chance)
    decisions = in_one_piece(records)
    if by_owners_in_turn(records, chance) != decisions:
        return "owners differ"
    found = Counter(event.WhichOneof("body") for one in decisions for event in GroupDecision.FromString(one).events)
    ends = found["completed"], found["expired"]
    if ends == (1, 0):
        return "completed" if completes else "completed too late"
    if ends == (0, 1):
        return "expired too early" if completes else "expired"
    return "neither" if ends == (0, 0) else "both"


def _trials(first: int, after: int) -> Counter[str]:
    return Counter(trial(number) for number in range(first, after))


def main() -> int:
    """Reads the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.last_moment", description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    starts = range(0, options.trials, CHUNK)
    ends = [min(start + CHUNK, options.trials) for start in starts]
    found: Counter[str] = Counter()
    with ProcessPoolExecutor(options.jobs) as pool:
        for counts in pool.map(_trials, starts, ends):
            found += counts
    print(json.dumps({"trials": options.trials, **dict(sorted(found.items()))}))
    return 0 if set(found) <= {"completed", "expired"} else 1


if __name__ == "__main__":
    sys.exit(main())
