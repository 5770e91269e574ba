"""Alerts about the API: errors, latency, refusals, and processes that do not serve."""

from __future__ import annotations

from tools.observe.alert import JOBS, Alert, Group, Record, Severity

#: Errors of ours. RESOURCE_EXHAUSTED is left out: refusing is the cure for an overload, which has its own alert.
#: CANCELLED is the caller's choice. Streams are left out: their ends say nothing about their messages.
_ERRORS = 'grpc_code=~"UNKNOWN|INTERNAL|UNAVAILABLE|DATA_LOSS|DEADLINE_EXCEEDED"'
_UNARY = f'{JOBS},grpc_type="unary"'


def _ratio(window: str) -> Record:
    errors = f"sum by (job, grpc_service) (rate(grpc_server_handled_total{{{_UNARY},{_ERRORS}}}[{window}]))"
    calls = f"sum by (job, grpc_service) (rate(grpc_server_handled_total{{{_UNARY}}}[{window}]))"
    return Record(f"groupbuy:rpc_errors:ratio_rate{window}", f"({errors}\n    or 0 * {calls})\n  / {calls}")


API = Group(
    "groupbuy-api",
    (
        _ratio("5m"),
        _ratio("1h"),
        Alert(
            name="GroupbuyRpcErrorBudgetBurn",
            severity=Severity.CRITICAL,
            expr="groupbuy:rpc_errors:ratio_rate5m > THRESHOLD and groupbuy:rpc_errors:ratio_rate1h > THRESHOLD",
            threshold=14.4 * 0.001,
            measured="14.4 times the rate that uses up a budget of 99.9 % in 30 days, so 2 % of the budget in an hour. "
            "A quiet demo has no such error.",
            for_s=120,
            summary="{{ $labels.grpc_service }} fails {{ $value | humanizePercentage }} of its calls",
            impact="Shoppers get errors. An order whose call failed may still be placed; a retry with the same "
            "request_id is safe.",
            cause="A service or the broker that orders waits for is down, frozen or far behind.",
            action="Find the code and the method. UNAVAILABLE and DEADLINE_EXCEEDED: look for a consumer group "
            "without a member or with lag.",
        ),
        Alert(
            name="GroupbuySlowCalls",
            severity=Severity.WARNING,
            expr="histogram_quantile(0.99, sum by (le, job) (rate(grpc_server_handling_seconds_bucket"
            '{job="groupbuy-orders",grpc_method="PlaceOrder"}[5m]))) > THRESHOLD',
            threshold=0.5,
            measured="A seat takes 117 ms (p99) at half of the highest load (`make bench-settle`). Four times that.",
            for_s=600,
            summary="PlaceOrder takes {{ $value | humanizeDuration }} (p99)",
            impact="Shoppers wait for their seat.",
            cause="The group decider, the broker's acknowledgements or the event loop of orders are slow.",
            action="Compare event-loop lag, publish time and decider lag: the largest is the cause.",
        ),
        Alert(
            name="GroupbuyOverloaded",
            severity=Severity.WARNING,
            expr='sum by (job) (rate(groupbuy_calls_refused_total{reason="OVERLOADED"}[5m])) > THRESHOLD',
            threshold=1,
            measured="Below its capacity of 1,850 calls/s a process refuses nothing (`make bench-api`).",
            for_s=300,
            summary="{{ $labels.job }} refuses {{ $value | humanize }} calls/s because it is overloaded",
            impact="Callers get RESOURCE_EXHAUSTED with RetryInfo. Accepted calls keep their latency.",
            cause="More calls than the processes can serve, or one caller that holds the slots of waiting calls.",
            action="Add replicas, or shed load at the edge. Refusing protects the accepted calls: do not raise limits.",
        ),
        Alert(
            name="GroupbuyServiceGone",
            severity=Severity.CRITICAL,
            expr="\n".join(
                f'{"  or " if at else ""}(absent(up{{job="groupbuy-{one}"}}) or sum by (job) '
                f'(up{{job="groupbuy-{one}"}}) < THRESHOLD)'
                for at, one in enumerate(("orders", "groups", "payments"))
            )
            + '\n  or sum by (job) (up{job="groupbuy-inventory"}) < THRESHOLD',
            threshold=1,
            measured="One replica is enough to work. A killed process answers again after 4 s (`make demo`).",
            for_s=60,
            summary="no replica of {{ $labels.job }} is up",
            impact="orders: no order can be placed. groups: no seat is given. payments: no hold and no capture is "
            "made; holds go on to age. inventory: groups of campaigns with stock wait for pieces. Nothing is lost.",
            cause="All processes ended, or none can be scraped.",
            action="Start one process. Code 2 names the wrong setting; code 70 has its reason in the last log line.",
        ),
        Alert(
            name="GroupbuyReplicaDown",
            severity=Severity.WARNING,
            expr=f"up{{{JOBS}}} < THRESHOLD",
            threshold=1,
            measured="A killed process answers again after 4 s (`make demo`); a scrape fails once in a restart.",
            for_s=60,
            summary="{{ $labels.instance }} of {{ $labels.job }} can't be scraped",
            impact="Its partitions move to other replicas after 10 s. Without another replica, see ServiceGone.",
            cause="The process ended or is frozen, or the network between Prometheus and it is cut.",
            action="Ask its port /live, then look at the exit code.",
        ),
        Alert(
            name="GroupbuyNotServing",
            severity=Severity.CRITICAL,
            expr=f"groupbuy_serving{{{JOBS}}} < THRESHOLD",
            threshold=1,
            measured="A restart with a checkpoint of 1,000,000 groups serves after 1.9 s, without one after 32 s "
            "(`make bench-recover`).",
            for_s=300,
            summary="{{ $labels.instance }} of {{ $labels.job }} runs and does not serve",
            impact="The process answers UNAVAILABLE. Orders are refused while no replica serves.",
            cause="The broker does not answer, partitions are still recovered, or the producer is blocked.",
            action="Read /ready of the process: it lists what is missing.",
        ),
    ),
)
