"""The fold of bench-peers on Quix Streams: exactly-once, totals in RocksDB with a changelog topic. Runs until killed.

Runs in an environment of its own (requirements.lock). Arguments: bootstrap, consumer group, input topic, output topic,
state directory.
"""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application

from bench.peers.messages import load

_MESSAGES = load()
FACT, TOTALS = _MESSAGES["Fact"], _MESSAGES["Totals"]


def fold(value: bytes, state: Any) -> bytes:
    """The totals of the group after a fact."""
    fact = FACT.FromString(value)
    found = state.get_bytes("totals")
    before = TOTALS() if found is None else TOTALS.FromString(found)
    totals: bytes = TOTALS(
        facts=before.facts + 1,
        units=before.units + fact.units,
        amount_minor=before.amount_minor + fact.amount_minor,
    ).SerializeToString()
    state.set_bytes("totals", totals)
    return totals


def main() -> None:
    """Runs the worker."""
    kafka, group, source, target, state_dir = sys.argv[1:]
    app = Application(
        broker_address=kafka,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=state_dir,
        commit_interval=0.5,
        producer_extra_config={"linger.ms": 20, "batch.size": 512 * 1024},
        loglevel="WARNING",
    )
    raw = {"key_deserializer": "bytes", "value_deserializer": "bytes"}
    made = {"key_serializer": "bytes", "value_serializer": "bytes"}
    frame = app.dataframe(app.topic(source, **raw))
    frame.apply(fold, stateful=True).to_topic(app.topic(target, **made))
    app.run()


if __name__ == "__main__":
    main()
