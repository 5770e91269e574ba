"""Panels that several dashboards have, and the legends and matchers of all."""

from __future__ import annotations

from tools.observe.dashboards.dashboard import RATE, Unit, p99, panel

GROUP = "{{consumer_group}}"
INSTANCE = "{{job}} {{instance}}"
UNARY = '{grpc_type="unary"}'
PLACE = '{job="groupbuy-orders",grpc_method="PlaceOrder"}'
HANDLING = "grpc_server_handling_seconds_bucket"

CALLS = panel(
    "Calls",
    "Ended calls by service.",
    Unit.PER_SECOND,
    (f"sum by (grpc_service) (rate(grpc_server_handled_total[{RATE}]))", "{{grpc_service}}"),
)
ERRORS = panel(
    "Share of errors of ours",
    "UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS, DEADLINE_EXCEEDED of unary calls. 1.4 % wakes somebody.",
    Unit.SHARE,
    ("groupbuy:rpc_errors:ratio_rate5m", "{{grpc_service}} {{job}}"),
)
PLACE_ORDER = panel(
    "PlaceOrder",
    "Half of the highest load: 117 ms (p99). Above 500 ms somebody looks at it.",
    Unit.SECONDS,
    (f"histogram_quantile(0.5, sum by (le) (rate({HANDLING}{PLACE}[{RATE}])))", "p50"),
    (f"histogram_quantile(0.99, sum by (le) (rate({HANDLING}{PLACE}[{RATE}])))", "p99"),
)
LAG = panel(
    "Lag",
    "Age of the oldest uncommitted record, as watch sees it. Above 30 s somebody is woken.",
    Unit.SECONDS,
    ("max by (consumer_group) (groupbuy_watch_lag_seconds)", GROUP),
)
ORDERS = panel(
    "Orders by their end",
    "Settled orders, and those that were refused, cancelled, expired, failed or released.",
    Unit.PER_SECOND,
    (f"sum by (end) (rate(groupbuy_orders_total[{RATE}]))", "{{end}}"),
)
MONEY_MOVED = panel(
    "Money moved, minor units a second",
    "Voided includes the rest that a capture releases.",
    Unit.NONE,
    (f"sum by (flow, currency) (rate(groupbuy_money_minor_total[{RATE}]))", "{{flow}} {{currency}}"),
)
UNSETTLED = panel(
    "Unsettled groups",
    "Closed groups with an order whose payment has not come to its end.",
    Unit.NONE,
    ("sum(groupbuy_unsettled_groups)", "groups"),
)
INVARIANTS = panel(
    "Violations of invariants",
    "Anything above 0 wakes somebody.",
    Unit.NONE,
    ("sum by (invariant) (groupbuy_audit_differences)", "invariant {{invariant}}"),
)
RESULTS = panel(
    "Provider calls by result",
    "retry_later: without a result for now; the call is made again.",
    Unit.PER_SECOND,
    (f"sum by (provider, result) (rate(groupbuy_provider_calls_total[{RATE}]))", "{{provider}} {{result}}"),
)
LOOP = panel(
    "Event-loop lag (p99)",
    "Above 0.25 s a process refuses calls.",
    Unit.SECONDS,
    (p99("groupbuy_event_loop_lag_seconds_bucket", "job, instance"), INSTANCE),
)
