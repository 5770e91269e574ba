"""Our worker of bench-peers: the fold as a domain of the kernel's decider, with its state in RocksDB.

Runs until it is killed. Arguments: bootstrap, consumer group, input topic, output topic, state directory.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers.facts import PARTITIONS
from bench.peers.messages import load
from eventlog.processors.base import Connection
from eventlog.processors.decider import Decider
from eventlog.records.codec import Codec
from eventlog.records.topic_spec import FOR_EVER, TopicSpec

_MESSAGES = load()
FACT, TOTALS, DECISION = _MESSAGES["Fact"], _MESSAGES["Totals"], _MESSAGES["Decision"]


@dataclass(slots=True)
class State:
    """The totals of one group."""

    facts: int = 0
    units: int = 0
    amount_minor: int = 0


class TotalsDomain:
    """Facts in, one decision with the new totals out for each."""

    decode_input = staticmethod(FACT.FromString)
    decode_decision = staticmethod(DECISION.FromString)

    def initial(self, key: str) -> State:
        """No facts."""
        return State()

    def decide(self, state: State, command: Any, at_ms: int) -> Iterable[Any]:
        """The totals after a fact."""
        totals = TOTALS()
        totals.facts = state.facts + 1
        totals.units = state.units + command.units
        totals.amount_minor = state.amount_minor + command.amount_minor
        return (totals,)

    def evolve(self, state: State, event: Any, at_ms: int) -> None:
        """Takes the new totals."""
        state.facts = event.facts
        state.units = event.units
        state.amount_minor = event.amount_minor

    def faulted(self, state: State, command: Any, error: str) -> Iterable[Any]:
        """No event: `decide` does not raise."""
        return ()

    def due(self, state: State) -> int | None:
        """None: there are no timers."""
        return None

    def tick(self, due_ms: int) -> bytes:
        """An input of no units. It never comes, as nothing is due."""
        return b""

    def encode_decision(
        self, key: str, version: int, cause: int, time_ms: int, previous_sha256: bytes, events: list[Any]
    ) -> bytes:
        """A Decision."""
        decision = DECISION()
        decision.group = key
        decision.version = version
        decision.cause = cause
        decision.time_ms = time_ms
        decision.previous_sha256 = previous_sha256
        decision.events.extend(events)
        encoded: bytes = decision.SerializeToString()
        return encoded


async def run(kafka: str, group: str, inbox: str, log: str, state_dir: Path) -> None:
    """Runs the decider."""
    decider = Decider(
        group,
        TopicSpec(inbox, FACT, "group", "bench", (group,), FOR_EVER),
        TopicSpec(log, DECISION, "group", "bench", (), FOR_EVER),
        TotalsDomain(),
        Connection(kafka, "b0", state_dir),
        Codec.of("peers-1", State),
    )
    await decider.start(PARTITIONS)
    await asyncio.Event().wait()


def main() -> None:
    """Runs the worker."""
    logging.basicConfig(level=logging.WARNING)
    kafka, group, inbox, log, state_dir = sys.argv[1:]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(run(kafka, group, inbox, log, Path(state_dir)))


if __name__ == "__main__":
    main()
