"""The metrics of `groupbuy-ops watch`: what it sees in the log, with code that shares no fold with the services."""

from __future__ import annotations

from chassis.telemetry.metrics.metric import Kind, Metric, Source

_GROUP = ("consumer_group",)
_GROUP_TOPIC = ("consumer_group", "topic")
_PROVIDER = ("provider",)

WATCH_LAG_RECORDS = Metric(
    "groupbuy_watch_lag_records",
    Kind.GAUGE,
    "records",
    _GROUP_TOPIC,
    "Records between the committed offsets of a consumer group and the ends of the topic, in total.",
    Source.WATCH,
)
WATCH_LAG_SECONDS = Metric(
    "groupbuy_watch_lag_seconds",
    Kind.GAUGE,
    "seconds",
    _GROUP_TOPIC,
    "Largest age among the partitions of the oldest record that is not committed, by LogAppendTime.",
    Source.WATCH,
)
WATCH_COMMITTED = Metric(
    "groupbuy_watch_committed_records_total",
    Kind.COUNTER,
    "records",
    _GROUP,
    "Records by which the committed offsets of a consumer group have advanced.",
    Source.WATCH,
)
WATCH_MEMBERS = Metric(
    "groupbuy_watch_members", Kind.GAUGE, "members", _GROUP, "Members of a consumer group.", Source.WATCH
)
WATCH_BEHIND = Metric(
    "groupbuy_watch_behind_records",
    Kind.GAUGE,
    "records",
    (),
    "Records that watch itself has not folded yet. Its other figures are late by as much.",
    Source.WATCH,
)
WATCH_POSITION = Metric(
    "groupbuy_watch_position_records_total", Kind.COUNTER, "records", (), "Records that watch has folded.", Source.WATCH
)
ORDERS = Metric(
    "groupbuy_orders_total", Kind.COUNTER, "orders", ("end",), "Orders that came to their end.", Source.WATCH
)
GROUPS = Metric(
    "groupbuy_groups_total", Kind.COUNTER, "groups", ("end",), "Groups that came to their end.", Source.WATCH
)
MONEY = Metric(
    "groupbuy_money_minor_total",
    Kind.COUNTER,
    "minor units",
    ("flow", "currency"),
    "Money that was moved, exact up to 9·10¹⁵ minor units.",
    Source.WATCH,
)
KEPT_PRICE_GROUPS = Metric(
    "groupbuy_kept_price_groups_total",
    Kind.COUNTER,
    "groups",
    ("currency",),
    "Settled groups whose price stayed below that of their charged members, because captures failed.",
    Source.WATCH,
)
KEPT_PRICE_COST = Metric(
    "groupbuy_kept_price_cost_minor_total",
    Kind.COUNTER,
    "minor units",
    ("currency",),
    "Their cost to the merchants. `groupbuy-ops watch --once --json` has it by campaign.",
    Source.WATCH,
)
OPEN_HOLDS = Metric(
    "groupbuy_open_holds",
    Kind.GAUGE,
    "holds",
    ("older_than", "currency"),
    "Holds that are neither captured nor ended, by age.",
    Source.WATCH,
)
OPEN_HOLDS_MINOR = Metric(
    "groupbuy_open_holds_minor", Kind.GAUGE, "minor units", ("older_than", "currency"), "Their amount.", Source.WATCH
)
HOLD_LAPSES = Metric(
    "groupbuy_hold_lapses_in_seconds",
    Kind.GAUGE,
    "seconds",
    _PROVIDER,
    "Time until the first open hold of a provider can't be captured any more.",
    Source.WATCH,
)
UNSETTLED_GROUPS = Metric(
    "groupbuy_unsettled_groups",
    Kind.GAUGE,
    "groups",
    (),
    "Closed groups with an order whose payment has not come to its end.",
    Source.WATCH,
)
OLDEST_UNSETTLED = Metric(
    "groupbuy_oldest_unsettled_group_seconds",
    Kind.GAUGE,
    "seconds",
    (),
    "Time since the closing of the oldest unsettled group; 0: there is none.",
    Source.WATCH,
)
SUSPENSE = Metric(
    "groupbuy_suspense_minor",
    Kind.GAUGE,
    "minor units",
    ("currency",),
    "Money on the suspense account: of no order that we know.",
    Source.WATCH,
)
OWED = Metric(
    "groupbuy_owed_minor",
    Kind.GAUGE,
    "minor units",
    ("currency",),
    "Money that refunds owe to shoppers and that the provider has not returned yet.",
    Source.WATCH,
)
AUDIT_DIFFERENCES = Metric(
    "groupbuy_audit_differences",
    Kind.GAUGE,
    "differences",
    ("invariant",),
    "Violations of an invariant that the log shows.",
    Source.WATCH,
)
RECONCILE_DIFFERENCES = Metric(
    "groupbuy_reconcile_differences",
    Kind.GAUGE,
    "entries",
    _PROVIDER,
    "Entries of the provider's last statement that differ from our ledger.",
    Source.WATCH,
)
RECONCILE_SUCCESS = Metric(
    "groupbuy_reconcile_last_success_timestamp_seconds",
    Kind.GAUGE,
    "seconds since the epoch",
    _PROVIDER,
    "When a statement of the provider was last compared.",
    Source.WATCH,
)
LEDGER_ROOT = Metric(
    "groupbuy_ledger_root_last_timestamp_seconds",
    Kind.GAUGE,
    "seconds since the epoch",
    (),
    "When a Merkle root of the ledger was last stored.",
    Source.WATCH,
)
