"""The outcome of each kind of bad record in each topic: the table behind docs/poison.md and its test.

A cell names what every reader of the topic does. The test writes each record to a real broker and compares.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared_kernel import topics

#: This reader quarantines the partition. Other readers and other partitions continue.
STOPS = "stops"
#: Dead-lettered by this reader, with its origin, and counted.
BURIED = "buried"
#: Changes nothing: it is counted and logged as critical.
IGNORED = "ignored"
#: Changes nothing: it repeats what is known, or names what was already decided.
NOTHING = "nothing"
#: Taken as any other record: the reader does not depend on what is wrong with it.
TAKEN = "taken"
#: Its copy stands in the inbox, whose decider then stops at it.
COPIED = "copied"

KINDS: Mapping[str, str] = {
    "bad bytes": "a value that is no message",
    "null value": "a record without a value",
    "null key": "a good value without a key",
    "bad key": "a good value under a key that is not UTF-8",
    "wrong partition": "a good record whose key belongs to another partition",
    "unknown body": "a message of a kind that this build does not know",
    "future rules": "a `rules_version` that this build does not know",
    "fork": "a second, different record of one version, source or id",
    "gap": "a version, or source, after the next one",
    "repeat": "the bytes of the record before it once more",
    "extreme": "numbers at the limits of 64 bits",
    "1 MiB": "as large as the broker takes",
}


def _all(readers: tuple[str, ...], outcome: str) -> dict[str, str]:
    return dict.fromkeys(readers, outcome)


_FACTS = (topics.GROUPS_SEQUENCER, topics.ORDERS_PROJECTION)
_CAMPAIGNS = ("groups", "orders")
_GROUP_LOG = (topics.GROUPS_DECIDER, topics.PAYMENTS_SEQUENCER, topics.ORDERS_PROJECTION)
_PAYMENT_LOG = (
    topics.PAYMENTS_DECIDER,
    topics.GROUPS_SEQUENCER,
    topics.PAYMENTS_EFFECTS,
    topics.PAYMENTS_LEDGER,
    topics.ORDERS_PROJECTION,
)
_UNREADABLE = ("bad bytes", "null value", "null key", "bad key", "wrong partition", "1 MiB")

#: Topic -> kind -> reader -> outcome. A kind that a topic can't have is left out.
TABLE: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    topics.ORDERS.name: {
        **{kind: _all(_FACTS, BURIED) for kind in (*_UNREADABLE, "unknown body")},
        **{kind: _all(_FACTS, TAKEN) for kind in ("fork", "repeat", "extreme")},
    },
    # The broker refuses a record without a key: the topic is compacted.
    topics.CAMPAIGNS.name: {
        **{kind: _all(_CAMPAIGNS, IGNORED) for kind in ("bad bytes", "null value", "bad key", "unknown body")},
        "extreme": _all(_CAMPAIGNS, TAKEN),
    },
    topics.GROUP_INBOX.name: {
        **{kind: {topics.GROUPS_DECIDER: STOPS} for kind in (*_UNREADABLE, "unknown body", "future rules")},
        **{kind: {topics.GROUPS_DECIDER: NOTHING} for kind in ("gap", "repeat", "extreme")},
        "fork": {topics.GROUPS_DECIDER: TAKEN},
    },
    topics.PAYMENT_INBOX.name: {
        **{kind: {topics.PAYMENTS_DECIDER: STOPS} for kind in (*_UNREADABLE, "unknown body")},
        **{kind: {topics.PAYMENTS_DECIDER: NOTHING} for kind in ("gap", "repeat", "extreme")},
        "future rules": {topics.PAYMENTS_DECIDER: TAKEN},
        "fork": {topics.PAYMENTS_DECIDER: TAKEN},
    },
    topics.GROUP_LOG.name: {
        **{kind: _all(_GROUP_LOG, STOPS) for kind in (*_UNREADABLE, "fork", "gap", "extreme")},
        "unknown body": {**_all(_GROUP_LOG, STOPS), topics.PAYMENTS_SEQUENCER: COPIED},
        "future rules": {**_all(_GROUP_LOG, TAKEN), topics.GROUPS_DECIDER: STOPS},
        "repeat": _all(_GROUP_LOG, NOTHING),
    },
    topics.PAYMENT_LOG.name: {
        **{kind: _all(_PAYMENT_LOG, STOPS) for kind in (*_UNREADABLE, "fork", "gap", "extreme")},
        "unknown body": {**_all(_PAYMENT_LOG, STOPS), topics.GROUPS_SEQUENCER: COPIED},
        "repeat": _all(_PAYMENT_LOG, NOTHING),
    },
}

_INBOX = {
    **dict.fromkeys((*_UNREADABLE, "unknown body"), STOPS),
    **dict.fromkeys(("fork", "repeat"), NOTHING),
    **dict.fromkeys(("gap", "extreme"), TAKEN),
}
_LOG = {**dict.fromkeys((*_UNREADABLE, "unknown body", "fork", "gap", "extreme"), STOPS), "repeat": NOTHING}


def _of(outcomes: Mapping[str, str], *readers: str) -> dict[str, dict[str, str]]:
    return {kind: _all(readers, outcome) for kind, outcome in outcomes.items()}


#: The same for an installation with the inventory service: its topics, and its reader of the groups' log.
WITH_INVENTORY: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    topics.GROUP_LOG.name: _of({**_LOG, "future rules": TAKEN}, topics.INVENTORY_ROUTER),
    topics.STOCK_INBOX.name: _of(_INBOX, topics.INVENTORY_STOCK_DECIDER),
    topics.STOCK_LOG.name: _of(_LOG, topics.INVENTORY_STOCK_DECIDER, topics.GROUPS_ROUTER, topics.INVENTORY_OFFERS),
    topics.ALLOWANCE_INBOX.name: _of(_INBOX, topics.INVENTORY_ALLOWANCE_DECIDER),
    topics.ALLOWANCE_LOG.name: _of(_LOG, topics.INVENTORY_ALLOWANCE_DECIDER, topics.GROUPS_ROUTER),
}


def page() -> str:
    """The table in Markdown."""
    lines = [
        "# Bad records",
        "",
        "Each kind of bad record in each topic, and the outcome in each reader. Made from `docs/poison_table.py` by",
        "`make docs`; `test_poison.py` and `test_poison_inventory.py` (tests/integration) write them to a real broker",
        "and compare. No outcome touches another partition, and each is the same after a restart.",
        "",
        "| outcome | meaning |",
        "|-|-|",
        f"| {STOPS} | the partition stands still in this reader: a critical log line every minute, the health service "
        "`groupbuy.partitions` is NOT_SERVING, and nothing is acknowledged, decided or paid. A recorded skip ends it |",
        f"| {BURIED} | dead-lettered with its origin, and counted |",
        f"| {IGNORED} | changes no offer; counted and logged |",
        f"| {NOTHING} | repeats what is known, so nothing follows |",
        f"| {TAKEN} | taken as any other record: the rules say what follows, or the reader does not depend on it |",
        f"| {COPIED} | copied to the inbox, whose decider stops at it |",
        "",
        "| kind | record |",
        "|-|-|",
        *(f"| {kind} | {what} |" for kind, what in KINDS.items()),
    ]
    named = list(TABLE.items())
    named += [(f"{topic} with the inventory service", kinds) for topic, kinds in WITH_INVENTORY.items()]
    for topic, kinds in named:
        readers = list(next(iter(kinds.values())))
        names = [reader.removeprefix("groupbuy.") for reader in readers]
        lines += ["", f"## {topic}", "", f"| | {' | '.join(names)} |", "|-" * (len(readers) + 1) + "|"]
        for kind in KINDS:
            if kind in kinds:
                lines.append(f"| {kind} | {' | '.join(kinds[kind][reader] for reader in readers)} |")
    return "\n".join([*lines, ""])
