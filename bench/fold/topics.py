"""Topics of bench-fold. They are not the product's, so that the benchmark can run against any broker."""

from __future__ import annotations

import os

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.inventory.v1.inbox_pb2 import AllowanceInput, StockInput
from groupbuy.orders.v1.facts_pb2 import OrderFact

from eventlog.records.topic_spec import FOR_EVER, TopicSpec

#: Part of every name, so that two runs on one broker use different topics. Workers inherit it.
TAG = os.environ.setdefault("BENCH_TAG", str(os.getpid()))
#: Not empty for a second decider of the same inbox, with another log.
AGAIN = os.environ.get("BENCH_AGAIN", "")


def decider(again: str) -> str:
    """The consumer group of a decider."""
    return f"groupbuy.bench{TAG}{again}.decider"


def log(again: str) -> TopicSpec:
    """The log of a decider."""
    return TopicSpec(f"bench{TAG}{again}.log", GroupDecision, "group", "bench", (), FOR_EVER)


DECIDER = decider(AGAIN)
SEQUENCER = f"groupbuy.bench{TAG}.sequencer"
INBOX = TopicSpec(f"bench{TAG}.inbox", GroupInput, "group", "bench", (DECIDER,), FOR_EVER)
LOG = log(AGAIN)
FACTS = TopicSpec(f"bench{TAG}.facts", OrderFact, "group", f"bench{TAG}", (SEQUENCER,), FOR_EVER)
SEQUENCED = TopicSpec(f"bench{TAG}.sequenced", GroupInput, "group", f"bench{TAG}", (), FOR_EVER)
#: Decisions of groups with stock, and the inboxes that they are routed to.
ROUTER = f"groupbuy.bench{TAG}.router"
DECISIONS = TopicSpec(f"bench{TAG}.decisions", GroupDecision, "group", "bench", (ROUTER,), FOR_EVER)
STOCKS = TopicSpec(f"bench{TAG}.stocks", StockInput, "stock", "bench", (), FOR_EVER)
ALLOWANCES = TopicSpec(f"bench{TAG}.allowances", AllowanceInput, "allowance", "bench", (), FOR_EVER)
ALL = (INBOX, LOG, FACTS, SEQUENCED)
ROUTED = (DECISIONS, STOCKS, ALLOWANCES)
