"""The metrics that the services serve. A process serves fewer than 500 lines (tests/unit/chassis/telemetry)."""

from __future__ import annotations

from chassis.telemetry.metrics.metric import Kind, Metric, Source
from eventlog.runtime.counters import PUBLISH_S, RECOVERY_S

_CALL_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_PAUSE_S = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5)
_PROVIDER_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_RPC = ("grpc_type", "grpc_service", "grpc_method")
_GROUP = ("consumer_group",)
_GROUP_TOPIC = ("consumer_group", "topic")
_PROVIDER = ("provider",)

# Calls --------------------------------------------------------------------------------------------------------------

GRPC_STARTED = Metric(
    "grpc_server_started_total", Kind.COUNTER, "calls", _RPC, "Calls that reached the process, refused ones included."
)
GRPC_HANDLED = Metric(
    "grpc_server_handled_total", Kind.COUNTER, "calls", (*_RPC, "grpc_code"), "Calls that ended, by their status."
)
GRPC_SECONDS = Metric(
    "grpc_server_handling_seconds",
    Kind.HISTOGRAM,
    "seconds",
    _RPC,
    "Time from the event loop taking a call to its end. A stream's time is its whole life.",
    buckets=_CALL_S,
)
CALLS_IN_FLIGHT = Metric(
    "groupbuy_calls_in_flight", Kind.GAUGE, "calls", ("kind",), "Calls that hold a slot. Operations: health, channelz."
)
CALLS_LIMIT = Metric(
    "groupbuy_calls_limit", Kind.GAUGE, "calls", ("kind",), "Limit of the calls in flight (MAX_CALLS, MAX_STREAMS)."
)
CALLS_REFUSED = Metric(
    "groupbuy_calls_refused_total",
    Kind.COUNTER,
    "calls",
    ("reason",),
    "Calls answered RESOURCE_EXHAUSTED, by the reason in their error details.",
)
QUEUE_WAIT = Metric(
    "groupbuy_call_queue_wait_seconds",
    Kind.GAUGE,
    "seconds",
    (),
    "Shortest of the last three measured waits of calls for the event loop. Above 0.25 s calls are refused.",
)

# Process ------------------------------------------------------------------------------------------------------------

SERVING = Metric(
    "groupbuy_serving", Kind.GAUGE, "0 or 1", (), "1 while health reports SERVING, as /ready does on this port."
)
CHECK = Metric(
    "groupbuy_check_passed",
    Kind.GAUGE,
    "0 or 1",
    ("check",),
    "The conditions of serving, each by itself; `partitions` is 0 while any partition is quarantined.",
)
EVENT_LOOP_LAG = Metric(
    "groupbuy_event_loop_lag_seconds",
    Kind.HISTOGRAM,
    "seconds",
    (),
    "How much later than scheduled the event loop ran a timer that is set ten times a second.",
    buckets=_PAUSE_S,
)
GC_PAUSE = Metric(
    "groupbuy_gc_pause_seconds",
    Kind.HISTOGRAM,
    "seconds",
    ("generation",),
    "Pauses of the garbage collector, which stop all threads.",
    buckets=(0.0001, 0.001, 0.01, 0.1),
)
BUILD_INFO = Metric(
    "groupbuy_build_info", Kind.GAUGE, "1", ("service", "version", "python"), "The build of the process. Always 1."
)
STARTS = Metric(
    "groupbuy_starts_total",
    Kind.COUNTER,
    "starts",
    (),
    "Starts with this state directory, this one included. A restart of the process does not reset it.",
)
LAST_EXIT_CODE = Metric(
    "groupbuy_last_exit_code",
    Kind.GAUGE,
    "exit code",
    (),
    "Exit code of the run before: 0 drained, 2 unusable address or file, 70 failure, -1 killed. Absent at the first "
    "start.",
)
CERTIFICATE_EXPIRES = Metric(
    "groupbuy_certificate_expires_timestamp_seconds",
    Kind.GAUGE,
    "seconds since the epoch",
    (),
    "When the certificate of this process expires, as the file is now. Absent without TLS.",
)
PROCESS_CPU = Metric(
    "process_cpu_seconds_total", Kind.COUNTER, "seconds", (), "User and system time that the process has used."
)
PROCESS_MEMORY = Metric("process_resident_memory_bytes", Kind.GAUGE, "bytes", (), "Resident memory.")
PROCESS_VIRTUAL = Metric("process_virtual_memory_bytes", Kind.GAUGE, "bytes", (), "Virtual memory.")
PROCESS_START = Metric(
    "process_start_time_seconds", Kind.GAUGE, "seconds since the epoch", (), "When the process started."
)
PROCESS_FDS = Metric("process_open_fds", Kind.GAUGE, "descriptors", (), "Open file descriptors.")
PROCESS_MAX_FDS = Metric("process_max_fds", Kind.GAUGE, "descriptors", (), "Limit of open file descriptors.")

# Kernel -------------------------------------------------------------------------------------------------------------

RECORDS_HANDLED = Metric(
    "groupbuy_records_handled_total", Kind.COUNTER, "records", _GROUP_TOPIC, "Records that a processor has handled."
)
RECORDS_SKIPPED = Metric(
    "groupbuy_records_skipped_total",
    Kind.COUNTER,
    "records",
    _GROUP,
    "Quarantined records that a recorded skip of an operator ended.",
)
DEAD_LETTERS = Metric(
    "groupbuy_dead_letters_total",
    Kind.COUNTER,
    "records",
    _GROUP_TOPIC,
    "Records that could not be decoded and were sent to the dead-letter topic of their source topic.",
)
BATCHES = Metric(
    "groupbuy_batches_handled_total",
    Kind.COUNTER,
    "batches",
    _GROUP,
    "Batches, each of one partition, that were handled.",
)
BATCH_SECONDS = Metric(
    "groupbuy_batch_seconds_total",
    Kind.COUNTER,
    "seconds",
    _GROUP,
    "Time to handle batches, the event loop's turns for others included, without the broker's acknowledgement.",
)
BATCHES_IN_FLIGHT = Metric(
    "groupbuy_batches_in_flight",
    Kind.GAUGE,
    "batches",
    _GROUP,
    "Batches that are delivered and not acknowledged yet. At most 8 for each partition.",
)
DECISIONS = Metric(
    "groupbuy_decisions_total",
    Kind.COUNTER,
    "records",
    ("consumer_group", "outcome"),
    "Inbox records by outcome: a decision, a decision after the rules raised an exception (faulted), a record that was "
    "decided before (repeat), or no event.",
)
DECIDE_SECONDS = Metric(
    "groupbuy_decide_seconds_total",
    Kind.COUNTER,
    "seconds",
    _GROUP,
    "Time spent deciding, without the event loop's turns for others. Divided by the decisions: seconds a decision.",
)
PUBLISH_SECONDS = Metric(
    "groupbuy_publish_seconds",
    Kind.HISTOGRAM,
    "seconds",
    ("topic",),
    "Time from handing a batch of API records to the producer to its acknowledgement by all in-sync replicas.",
    buckets=PUBLISH_S,
)
LAG_RECORDS = Metric(
    "groupbuy_processor_lag_records",
    Kind.GAUGE,
    "records",
    _GROUP_TOPIC,
    "Records of the owned partitions that are not acknowledged, in total, as this process sees the ends of the topics.",
)
LAG_SECONDS = Metric(
    "groupbuy_processor_lag_seconds",
    Kind.GAUGE,
    "seconds",
    _GROUP,
    "Age of the oldest delivered batch that is not acknowledged, by the broker's timestamp of its last record.",
)
PARTITIONS_OWNED = Metric(
    "groupbuy_partitions_owned", Kind.GAUGE, "partitions", _GROUP, "Partitions that the group assigns to this process."
)
PARTITIONS_QUARANTINED = Metric(
    "groupbuy_partitions_quarantined", Kind.GAUGE, "partitions", _GROUP, "Owned partitions that a bad record stops."
)
RECOVERING_SECONDS = Metric(
    "groupbuy_recovering_seconds",
    Kind.GAUGE,
    "seconds",
    _GROUP,
    "Seconds since the last assignment while its partitions are not recovered; 0 once they are.",
)
RECOVERY_SECONDS = Metric(
    "groupbuy_recovery_seconds",
    Kind.HISTOGRAM,
    "seconds",
    _GROUP,
    "Time from an assignment to the flow of its input.",
    buckets=RECOVERY_S,
)
CHECKPOINT_AGE = Metric(
    "groupbuy_checkpoint_age_seconds",
    Kind.GAUGE,
    "seconds",
    _GROUP,
    "Largest time among the owned partitions since a change that no checkpoint has; 0 if all changes are on disk.",
)
CHECKPOINT_BEHIND = Metric(
    "groupbuy_checkpoint_unsaved",
    Kind.GAUGE,
    "aggregates",
    _GROUP,
    "Changed aggregates of the owned partitions that the next checkpoint will write, in total.",
)
LEASE_REMAINING = Metric(
    "groupbuy_lease_remaining_seconds",
    Kind.GAUGE,
    "seconds",
    _GROUP,
    "Seconds for which reads are still certain to be current; 0: the replica answers NOT_READY.",
)
TIMERS_LATE = Metric(
    "groupbuy_timers_late_seconds",
    Kind.GAUGE,
    "seconds",
    _GROUP,
    "How long the next timer of the owned partitions is overdue, by the broker's clock; 0: none is.",
)
STANDBY_PARTITIONS = Metric(
    "groupbuy_standby_partitions", Kind.GAUGE, "partitions", _GROUP, "Partitions that this process follows as standby."
)
STANDBY_LAG = Metric(
    "groupbuy_standby_lag_records",
    Kind.GAUGE,
    "records",
    _GROUP,
    "Records that the followed partitions are behind the known ends of their logs, in total.",
)

# Money, as the payments service sees it -----------------------------------------------------------------------------

PROVIDER_CALLS = Metric(
    "groupbuy_provider_calls_total",
    Kind.COUNTER,
    "calls",
    ("provider", "operation", "result"),
    "Provider calls by result. retry_later: unknown or impossible for now; the call is made again later.",
    Source.PAYMENTS,
)
PROVIDER_SECONDS = Metric(
    "groupbuy_provider_call_seconds",
    Kind.HISTOGRAM,
    "seconds",
    _PROVIDER,
    "Time of a provider call with its look-ups and retries, at most twice CALL_SECONDS.",
    Source.PAYMENTS,
    _PROVIDER_S,
)
PROVIDER_OPERATION_SECONDS = Metric(
    "groupbuy_provider_operation_seconds_total",
    Kind.COUNTER,
    "seconds",
    ("provider", "operation"),
    "The same time by operation. Divided by the calls: seconds a call.",
    Source.PAYMENTS,
)
PROVIDER_IN_FLIGHT = Metric(
    "groupbuy_provider_calls_in_flight", Kind.GAUGE, "calls", _PROVIDER, "Provider calls in flight.", Source.PAYMENTS
)
PROVIDER_SHORT_HOLDS = Metric(
    "groupbuy_provider_short_holds_total",
    Kind.COUNTER,
    "holds",
    _PROVIDER,
    "Holds that end before the time until which their group needs them.",
    Source.PAYMENTS,
)
PROVIDER_WRONG_CURRENCY = Metric(
    "groupbuy_provider_wrong_currency_total",
    Kind.COUNTER,
    "calls",
    _PROVIDER,
    "Calls that the provider answered in another currency than asked for.",
    Source.PAYMENTS,
)
PROVIDER_CIRCUIT_OPEN = Metric(
    "groupbuy_provider_circuit_open",
    Kind.GAUGE,
    "0 or 1",
    _PROVIDER,
    "1 while the circuit breaker is not closed, so that calls are postponed.",
    Source.PAYMENTS,
)
WEBHOOKS = Metric(
    "groupbuy_webhooks_total",
    Kind.COUNTER,
    "notifications",
    ("provider", "result"),
    "Provider notifications over HTTP and gRPC. ignored: not about a payment or not final; foreign: of another "
    "deployment or mode; refused: bad signature; failed: not appended, the provider sends it again.",
    Source.PAYMENTS,
)
