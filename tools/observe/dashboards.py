"""The dashboards: overview, API, kernel, money, provider and capacity."""

from __future__ import annotations

from tools.observe.dashboard import RATE, Dashboard, Unit, p99, panel

_GROUP = "{{consumer_group}}"
_INSTANCE = "{{job}} {{instance}}"
_UNARY = '{grpc_type="unary"}'
_PLACE = '{job="groupbuy-orders",grpc_method="PlaceOrder"}'
_HANDLING = "grpc_server_handling_seconds_bucket"

_CALLS = panel(
    "Calls",
    "Ended calls by service.",
    Unit.PER_SECOND,
    (f"sum by (grpc_service) (rate(grpc_server_handled_total[{RATE}]))", "{{grpc_service}}"),
)
_ERRORS = panel(
    "Share of errors of ours",
    "UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS, DEADLINE_EXCEEDED of unary calls. 1.4 % wakes somebody.",
    Unit.SHARE,
    ("groupbuy:rpc_errors:ratio_rate5m", "{{grpc_service}} {{job}}"),
)
_PLACE_ORDER = panel(
    "PlaceOrder",
    "Half of the highest load: 117 ms (p99). Above 500 ms somebody looks at it.",
    Unit.SECONDS,
    (f"histogram_quantile(0.5, sum by (le) (rate({_HANDLING}{_PLACE}[{RATE}])))", "p50"),
    (f"histogram_quantile(0.99, sum by (le) (rate({_HANDLING}{_PLACE}[{RATE}])))", "p99"),
)
_LAG = panel(
    "Lag",
    "Age of the oldest uncommitted record, as watch sees it. Above 30 s somebody is woken.",
    Unit.SECONDS,
    ("max by (consumer_group) (groupbuy_watch_lag_seconds)", _GROUP),
)
_ORDERS = panel(
    "Orders by their end",
    "Settled orders, and those that were refused, cancelled, expired, failed or released.",
    Unit.PER_SECOND,
    (f"sum by (end) (rate(groupbuy_orders_total[{RATE}]))", "{{end}}"),
)
_MONEY = panel(
    "Money moved, minor units a second",
    "Voided includes the rest that a capture releases.",
    Unit.NONE,
    (f"sum by (flow, currency) (rate(groupbuy_money_minor_total[{RATE}]))", "{{flow}} {{currency}}"),
)
_UNSETTLED = panel(
    "Unsettled groups",
    "Closed groups with an order whose payment has not come to its end.",
    Unit.NONE,
    ("sum(groupbuy_unsettled_groups)", "groups"),
)
_INVARIANTS = panel(
    "Violations of invariants",
    "Anything above 0 wakes somebody.",
    Unit.NONE,
    ("sum by (invariant) (groupbuy_audit_differences)", "invariant {{invariant}}"),
)
_RESULTS = panel(
    "Provider calls by result",
    "retry_later: without a result for now; the call is made again.",
    Unit.PER_SECOND,
    (f"sum by (provider, result) (rate(groupbuy_provider_calls_total[{RATE}]))", "{{provider}} {{result}}"),
)
_LOOP = panel(
    "Event-loop lag (p99)",
    "Above 0.25 s a process refuses calls.",
    Unit.SECONDS,
    (p99("groupbuy_event_loop_lag_seconds_bucket", "job, instance"), _INSTANCE),
)

OVERVIEW = Dashboard(
    "overview",
    "overview",
    (
        panel("Serving processes", "By service.", Unit.NONE, ("sum by (job) (groupbuy_serving)", "{{job}}")),
        _CALLS,
        _PLACE_ORDER,
        _ORDERS,
        panel(
            "Groups by their end",
            "Settled, expired and cancelled groups.",
            Unit.PER_SECOND,
            (f"sum by (end) (rate(groupbuy_groups_total[{RATE}]))", "{{end}}"),
        ),
        _MONEY,
        _LAG,
        _UNSETTLED,
        _INVARIANTS,
        _RESULTS,
        _LOOP,
        panel(
            "Watch",
            "Records that watch has not folded yet. Its figures are late by as much.",
            Unit.NONE,
            ("groupbuy_watch_behind_records", "{{instance}}"),
        ),
    ),
)

API = Dashboard(
    "api",
    "API",
    (
        panel(
            "Calls by method",
            "Ended calls.",
            Unit.PER_SECOND,
            (f"sum by (grpc_service, grpc_method) (rate(grpc_server_handled_total[{RATE}]))", "{{grpc_method}}"),
        ),
        panel(
            "Calls by code",
            "OK, and the codes of errors.",
            Unit.PER_SECOND,
            (f"sum by (job, grpc_code) (rate(grpc_server_handled_total[{RATE}]))", "{{job}} {{grpc_code}}"),
        ),
        _ERRORS,
        panel(
            "Unary calls (p99)",
            "From the event loop taking a call to its end.",
            Unit.SECONDS,
            (p99(_HANDLING, "grpc_method", _UNARY), "{{grpc_method}}"),
        ),
        _PLACE_ORDER,
        panel(
            "Publish (p99)",
            "From a batch of API records to its acknowledgement by all in-sync replicas.",
            Unit.SECONDS,
            (p99("groupbuy_publish_seconds_bucket", "topic"), "{{topic}}"),
        ),
        panel(
            "Calls in flight, share of the limit",
            "At 1 further calls are refused.",
            Unit.SHARE,
            ("groupbuy_calls_in_flight / groupbuy_calls_limit", f"{_INSTANCE} {{{{kind}}}}"),
        ),
        panel(
            "Refused calls",
            "RESOURCE_EXHAUSTED by reason.",
            Unit.PER_SECOND,
            (f"sum by (job, reason) (rate(groupbuy_calls_refused_total[{RATE}]))", "{{job}} {{reason}}"),
        ),
        panel(
            "Queue wait",
            "Shortest of the last three waits for the event loop. Above 0.25 s calls are refused.",
            Unit.SECONDS,
            ("groupbuy_call_queue_wait_seconds", _INSTANCE),
        ),
    ),
)

KERNEL = Dashboard(
    "kernel",
    "kernel",
    (
        _LAG,
        panel(
            "Lag in records",
            "Between committed offsets and ends, as watch sees them.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_watch_lag_records)", _GROUP),
        ),
        panel(
            "Committed records",
            "A group with lag and without commits is stuck.",
            Unit.RECORDS_PER_SECOND,
            (f"sum by (consumer_group) (rate(groupbuy_watch_committed_records_total[{RATE}]))", _GROUP),
        ),
        panel("Members", "0: nobody does this step.", Unit.NONE, ("groupbuy_watch_members", _GROUP)),
        panel(
            "Decisions by outcome",
            "faulted: the rules raised an exception.",
            Unit.RECORDS_PER_SECOND,
            (
                f"sum by (consumer_group, outcome) (rate(groupbuy_decisions_total[{RATE}]))",
                f"{_GROUP} {{{{outcome}}}}",
            ),
        ),
        panel(
            "Seconds a decision",
            "The group decider takes 23 µs at full speed; small batches cost more.",
            Unit.SECONDS,
            (
                f"sum by (consumer_group) (rate(groupbuy_decide_seconds_total[{RATE}]))"
                f" / sum by (consumer_group) (rate(groupbuy_decisions_total[{RATE}]))",
                _GROUP,
            ),
        ),
        panel(
            "Batches in flight",
            "At most 8 for each partition.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_batches_in_flight)", _GROUP),
        ),
        panel(
            "Checkpoint age",
            "20 s in normal operation.",
            Unit.SECONDS,
            ("max by (consumer_group) (groupbuy_checkpoint_age_seconds)", _GROUP),
        ),
        panel(
            "Aggregates without a checkpoint",
            "Written by the next one.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_checkpoint_unsaved)", _GROUP),
        ),
        panel(
            "Lease",
            "7 to 10 s in normal operation; at 0 reads are refused.",
            Unit.SECONDS,
            ("min by (consumer_group) (groupbuy_lease_remaining_seconds)", _GROUP),
        ),
        panel(
            "Late timers",
            "How long the next timer is overdue.",
            Unit.SECONDS,
            ("max by (consumer_group) (groupbuy_timers_late_seconds)", _GROUP),
        ),
        panel(
            "Recovery",
            "Seconds since the assignment of partitions that are not recovered.",
            Unit.SECONDS,
            ("max by (consumer_group) (groupbuy_recovering_seconds)", _GROUP),
        ),
        panel(
            "Partitions",
            "Owned, quarantined, and followed as standby.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_partitions_owned)", f"owned {_GROUP}"),
            ("sum by (consumer_group) (groupbuy_partitions_quarantined)", f"quarantined {_GROUP}"),
            ("sum by (consumer_group) (groupbuy_standby_partitions)", f"standby {_GROUP}"),
        ),
        panel(
            "Bad records",
            "Dead letters and skipped records.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_dead_letters_total)", f"dead letters {_GROUP}"),
            ("sum by (consumer_group) (groupbuy_records_skipped_total)", f"skipped {_GROUP}"),
        ),
        panel(
            "Standby lag in records",
            "Records that standbys are behind.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_standby_lag_records)", _GROUP),
        ),
    ),
)

MONEY = Dashboard(
    "money",
    "money",
    (
        _MONEY,
        _ORDERS,
        _INVARIANTS,
        panel(
            "Open holds by age",
            "Holds that are neither captured nor ended.",
            Unit.NONE,
            ("sum by (older_than) (groupbuy_open_holds)", "older than {{older_than}}"),
        ),
        panel(
            "Open holds, minor units",
            "Their amount.",
            Unit.NONE,
            ("sum by (older_than, currency) (groupbuy_open_holds_minor)", "{{currency}} older than {{older_than}}"),
        ),
        panel(
            "First hold lapses in",
            "Below 6 h somebody is woken.",
            Unit.SECONDS,
            ("min by (provider) (groupbuy_hold_lapses_in_seconds)", "{{provider}}"),
        ),
        _UNSETTLED,
        panel(
            "Oldest unsettled group",
            "Above 15 minutes somebody is woken.",
            Unit.SECONDS,
            ("max(groupbuy_oldest_unsettled_group_seconds)", "seconds"),
        ),
        panel(
            "Suspense and owed refunds, minor units",
            "Money of no order, and refunds that the provider has not made.",
            Unit.NONE,
            ("sum by (currency) (groupbuy_suspense_minor)", "suspense {{currency}}"),
            ("sum by (currency) (groupbuy_owed_minor)", "owed {{currency}}"),
        ),
        panel(
            "Differences to statements",
            "Anything above 0 wakes somebody.",
            Unit.NONE,
            ("sum by (provider) (groupbuy_reconcile_differences)", "{{provider}}"),
        ),
        panel(
            "Age of the last statement",
            "Above 26 h somebody looks at it.",
            Unit.SECONDS,
            ("time() - max by (provider) (groupbuy_reconcile_last_success_timestamp_seconds)", "{{provider}}"),
        ),
        panel(
            "Age of the last Merkle root",
            "Above 26 h somebody looks at it.",
            Unit.SECONDS,
            ("time() - max(groupbuy_ledger_root_last_timestamp_seconds)", "root"),
        ),
    ),
)

PROVIDER = Dashboard(
    "provider",
    "provider",
    (
        _RESULTS,
        panel(
            "Share of calls without a result",
            "Above 5 % somebody looks at it.",
            Unit.SHARE,
            (
                f'(sum by (provider) (rate(groupbuy_provider_calls_total{{result=~"retry_later|raised"}}[{RATE}]))'
                f" or 0 * sum by (provider) (rate(groupbuy_provider_calls_total[{RATE}])))"
                f" / sum by (provider) (rate(groupbuy_provider_calls_total[{RATE}]))",
                "{{provider}}",
            ),
        ),
        panel(
            "Seconds a call",
            "Above 2.5 s (p90) somebody looks at it.",
            Unit.SECONDS,
            (
                f"histogram_quantile(0.9, sum by (le, provider) (rate(groupbuy_provider_call_seconds_bucket[{RATE}])))",
                "p90 {{provider}}",
            ),
            (p99("groupbuy_provider_call_seconds_bucket", "provider"), "p99 {{provider}}"),
        ),
        panel(
            "Seconds a call by operation",
            "Mean.",
            Unit.SECONDS,
            (
                f"sum by (provider, operation) (rate(groupbuy_provider_operation_seconds_total[{RATE}]))"
                f" / sum by (provider, operation) (rate(groupbuy_provider_calls_total[{RATE}]))",
                "{{provider}} {{operation}}",
            ),
        ),
        panel(
            "Calls in flight",
            "By provider.",
            Unit.NONE,
            ("sum by (provider) (groupbuy_provider_calls_in_flight)", "{{provider}}"),
        ),
        panel(
            "Open circuits",
            "1: the provider is not called at present.",
            Unit.NONE,
            ("max by (provider) (groupbuy_provider_circuit_open)", "{{provider}}"),
        ),
        panel(
            "Notifications",
            "refused: bad signature; failed: not appended, the provider sends it again.",
            Unit.PER_SECOND,
            (f"sum by (provider, result) (rate(groupbuy_webhooks_total[{RATE}]))", "{{provider}} {{result}}"),
        ),
    ),
)

CAPACITY = Dashboard(
    "capacity",
    "capacity",
    (
        panel(
            "Processor cores",
            "A process uses at most about one; at one, add replicas.",
            Unit.NONE,
            (f"rate(process_cpu_seconds_total[{RATE}])", _INSTANCE),
        ),
        panel(
            "Resident memory",
            "A decider with 1,000,000 open groups needs 330 MB.",
            Unit.BYTES,
            ("process_resident_memory_bytes", _INSTANCE),
        ),
        panel(
            "Open files, share of the limit",
            "Above 80 % somebody looks at it.",
            Unit.SHARE,
            ("process_open_fds / process_max_fds", _INSTANCE),
        ),
        _LOOP,
        panel(
            "Time in garbage collection",
            "Share of the time in which all threads stand still.",
            Unit.SHARE,
            (f"sum by (job, instance) (rate(groupbuy_gc_pause_seconds_sum[{RATE}]))", _INSTANCE),
        ),
        panel(
            "Time in batches",
            "Share of the time in which a processor handles batches. At 1, add replicas.",
            Unit.SHARE,
            (
                f"sum by (consumer_group, instance) (rate(groupbuy_batch_seconds_total[{RATE}]))",
                f"{_GROUP} {{{{instance}}}}",
            ),
        ),
        panel(
            "Records handled",
            "By consumer group.",
            Unit.RECORDS_PER_SECOND,
            (f"sum by (consumer_group) (rate(groupbuy_records_handled_total[{RATE}]))", _GROUP),
        ),
        panel(
            "Partitions a process",
            "A process with one partition can't be relieved by further replicas.",
            Unit.NONE,
            ("groupbuy_partitions_owned", f"{_GROUP} {{{{instance}}}}"),
        ),
        panel(
            "Starts",
            "A counter of each replica; a step is a restart.",
            Unit.NONE,
            ("groupbuy_starts_total", _INSTANCE),
        ),
    ),
)

DASHBOARDS = (OVERVIEW, API, KERNEL, MONEY, PROVIDER, CAPACITY)
