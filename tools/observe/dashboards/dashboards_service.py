"""The dashboards of the services: overview, API and kernel."""

from __future__ import annotations

from tools.observe.dashboards.common_panels import (
    CALLS,
    ERRORS,
    GROUP,
    HANDLING,
    INSTANCE,
    INVARIANTS,
    LAG,
    LOOP,
    MONEY_MOVED,
    ORDERS,
    PLACE_ORDER,
    RESULTS,
    UNARY,
    UNSETTLED,
)
from tools.observe.dashboards.dashboard import RATE, Dashboard, Unit, p99, panel

OVERVIEW = Dashboard(
    "overview",
    "overview",
    (
        panel("Serving processes", "By service.", Unit.NONE, ("sum by (job) (groupbuy_serving)", "{{job}}")),
        CALLS,
        PLACE_ORDER,
        ORDERS,
        panel(
            "Groups by their end",
            "Settled, expired and cancelled groups.",
            Unit.PER_SECOND,
            (f"sum by (end) (rate(groupbuy_groups_total[{RATE}]))", "{{end}}"),
        ),
        MONEY_MOVED,
        LAG,
        UNSETTLED,
        INVARIANTS,
        RESULTS,
        LOOP,
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
        ERRORS,
        panel(
            "Unary calls (p99)",
            "From the event loop taking a call to its end.",
            Unit.SECONDS,
            (p99(HANDLING, "grpc_method", UNARY), "{{grpc_method}}"),
        ),
        PLACE_ORDER,
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
            ("groupbuy_calls_in_flight / groupbuy_calls_limit", f"{INSTANCE} {{{{kind}}}}"),
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
            ("groupbuy_call_queue_wait_seconds", INSTANCE),
        ),
    ),
)

KERNEL = Dashboard(
    "kernel",
    "kernel",
    (
        LAG,
        panel(
            "Lag in records",
            "Between committed offsets and ends, as watch sees them.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_watch_lag_records)", GROUP),
        ),
        panel(
            "Committed records",
            "A group with lag and without commits is stuck.",
            Unit.RECORDS_PER_SECOND,
            (f"sum by (consumer_group) (rate(groupbuy_watch_committed_records_total[{RATE}]))", GROUP),
        ),
        panel("Members", "0: nobody does this step.", Unit.NONE, ("groupbuy_watch_members", GROUP)),
        panel(
            "Decisions by outcome",
            "faulted: the rules raised an exception.",
            Unit.RECORDS_PER_SECOND,
            (
                f"sum by (consumer_group, outcome) (rate(groupbuy_decisions_total[{RATE}]))",
                f"{GROUP} {{{{outcome}}}}",
            ),
        ),
        panel(
            "Seconds a decision",
            "The group decider takes 23 µs at full speed; small batches cost more.",
            Unit.SECONDS,
            (
                f"sum by (consumer_group) (rate(groupbuy_decide_seconds_total[{RATE}]))"
                f" / sum by (consumer_group) (rate(groupbuy_decisions_total[{RATE}]))",
                GROUP,
            ),
        ),
        panel(
            "Batches in flight",
            "At most 8 for each partition.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_batches_in_flight)", GROUP),
        ),
        panel(
            "Checkpoint age",
            "20 s in normal operation.",
            Unit.SECONDS,
            ("max by (consumer_group) (groupbuy_checkpoint_age_seconds)", GROUP),
        ),
        panel(
            "Aggregates without a checkpoint",
            "Written by the next one.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_checkpoint_unsaved)", GROUP),
        ),
        panel(
            "Lease",
            "7 to 10 s in normal operation; at 0 reads are refused.",
            Unit.SECONDS,
            ("min by (consumer_group) (groupbuy_lease_remaining_seconds)", GROUP),
        ),
        panel(
            "Late timers",
            "How long the next timer is overdue.",
            Unit.SECONDS,
            ("max by (consumer_group) (groupbuy_timers_late_seconds)", GROUP),
        ),
        panel(
            "Recovery",
            "Seconds since the assignment of partitions that are not recovered.",
            Unit.SECONDS,
            ("max by (consumer_group) (groupbuy_recovering_seconds)", GROUP),
        ),
        panel(
            "Partitions",
            "Owned, quarantined, and followed as standby.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_partitions_owned)", f"owned {GROUP}"),
            ("sum by (consumer_group) (groupbuy_partitions_quarantined)", f"quarantined {GROUP}"),
            ("sum by (consumer_group) (groupbuy_standby_partitions)", f"standby {GROUP}"),
        ),
        panel(
            "Bad records",
            "Dead letters and skipped records.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_dead_letters_total)", f"dead letters {GROUP}"),
            ("sum by (consumer_group) (groupbuy_records_skipped_total)", f"skipped {GROUP}"),
        ),
        panel(
            "Standby lag in records",
            "Records that standbys are behind.",
            Unit.NONE,
            ("sum by (consumer_group) (groupbuy_standby_lag_records)", GROUP),
        ),
    ),
)
