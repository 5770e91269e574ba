"""The dashboards about money, the providers and capacity."""

from __future__ import annotations

from tools.observe.dashboards.common_panels import (
    GROUP,
    INSTANCE,
    INVARIANTS,
    LOOP,
    MONEY_MOVED,
    ORDERS,
    RESULTS,
    UNSETTLED,
)
from tools.observe.dashboards.dashboard import RATE, Dashboard, Unit, p99, panel

MONEY = Dashboard(
    "money",
    "money",
    (
        MONEY_MOVED,
        ORDERS,
        INVARIANTS,
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
        UNSETTLED,
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
            "Cost of kept prices, minor units",
            "Failed captures after the completion: the merchants bear the difference to the price of the tier reached.",
            Unit.NONE,
            ("sum by (currency) (groupbuy_kept_price_cost_minor_total)", "{{currency}}"),
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
        RESULTS,
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
            (f"rate(process_cpu_seconds_total[{RATE}])", INSTANCE),
        ),
        panel(
            "Resident memory",
            "A decider with 1,000,000 open groups needs 330 MB.",
            Unit.BYTES,
            ("process_resident_memory_bytes", INSTANCE),
        ),
        panel(
            "Open files, share of the limit",
            "Above 80 % somebody looks at it.",
            Unit.SHARE,
            ("process_open_fds / process_max_fds", INSTANCE),
        ),
        LOOP,
        panel(
            "Time in garbage collection",
            "Share of the time in which all threads stand still.",
            Unit.SHARE,
            (f"sum by (job, instance) (rate(groupbuy_gc_pause_seconds_sum[{RATE}]))", INSTANCE),
        ),
        panel(
            "Time in batches",
            "Share of the time in which a processor handles batches. At 1, add replicas.",
            Unit.SHARE,
            (
                f"sum by (consumer_group, instance) (rate(groupbuy_batch_seconds_total[{RATE}]))",
                f"{GROUP} {{{{instance}}}}",
            ),
        ),
        panel(
            "Records handled",
            "By consumer group.",
            Unit.RECORDS_PER_SECOND,
            (f"sum by (consumer_group) (rate(groupbuy_records_handled_total[{RATE}]))", GROUP),
        ),
        panel(
            "Partitions a process",
            "A process with one partition can't be relieved by further replicas.",
            Unit.NONE,
            ("groupbuy_partitions_owned", f"{GROUP} {{{{instance}}}}"),
        ),
        panel(
            "Starts",
            "A counter of each replica; a step is a restart.",
            Unit.NONE,
            ("groupbuy_starts_total", INSTANCE),
        ),
    ),
)
