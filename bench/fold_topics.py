"""Topics of bench-fold. Not the product's own, so that it can run against any broker."""

from __future__ import annotations

import os

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.orders.v1.facts_pb2 import OrderFact

from eventlog.topics import FOR_EVER, TopicSpec

TAG = os.environ.get("BENCH_TAG", "0")
#: Set for a decider that decides the same inbox once more, into a log of its own.
AGAIN = os.environ.get("BENCH_AGAIN", "")
DECIDER = f"groupbuy.bench{TAG}{AGAIN}.decider"
SEQUENCER = f"groupbuy.bench{TAG}.sequencer"
INBOX = TopicSpec(f"bench{TAG}.inbox", GroupInput, "group", "bench", (DECIDER,), FOR_EVER)
LOG = TopicSpec(f"bench{TAG}{AGAIN}.log", GroupDecision, "group", "bench", (), FOR_EVER)
FACTS = TopicSpec(f"bench{TAG}.facts", OrderFact, "group", f"bench{TAG}", (SEQUENCER,), FOR_EVER)
SEQUENCED = TopicSpec(f"bench{TAG}.sequenced", GroupInput, "group", f"bench{TAG}", (), FOR_EVER)
ALL = (INBOX, LOG, FACTS, SEQUENCED)
