"""Alerts about single processes: ends, event loop, files, certificates, and watch."""

from __future__ import annotations

from tools.observe.alert import JOBS, Alert, Group, Severity

PROCESS = Group(
    "groupbuy-process",
    (
        Alert(
            name="GroupbuyExit70",
            severity=Severity.CRITICAL,
            expr="(groupbuy_last_exit_code == 70)\n"
            "  and on (job, instance) increase(groupbuy_starts_total[15m]) > THRESHOLD",
            threshold=0,
            measured="A process ends itself with code 70 only if an invariant does not hold: 0 times in every chaos "
            "run (`make chaos`).",
            summary="{{ $labels.instance }} of {{ $labels.job }} ended itself with code 70",
            impact="The process restarted and continues from the log. The cause may come again.",
            cause="A violated invariant, a state directory that can't be written, or an event loop that was stuck "
            "for 30 s.",
            action="Read the reason in the last log line before the restart. Keep the state directory.",
        ),
        Alert(
            name="GroupbuyProcessRestarts",
            severity=Severity.WARNING,
            expr=f"increase(groupbuy_starts_total{{{JOBS}}}[1h]) > THRESHOLD",
            threshold=2,
            measured="A rolling upgrade starts each process once. A restart costs 4 s of its partitions (`make demo`).",
            summary='{{ $labels.instance }} of {{ $labels.job }} restarted {{ printf "%.0f" $value }} times in an hour',
            impact="Its partitions stand still for some seconds at each restart.",
            cause="Killed for memory, or an invariant that does not hold.",
            action="The exit code: -1 is a signal, 70 a violated invariant.",
        ),
        Alert(
            name="GroupbuyEventLoopLate",
            severity=Severity.WARNING,
            expr="histogram_quantile(0.99, sum by (le, job, instance) "
            "(rate(groupbuy_event_loop_lag_seconds_bucket[5m]))) > THRESHOLD",
            threshold=0.25,
            measured="A call beside a decider at full speed takes 19 to 22 ms, p99 (`make bench-beside`). Ten times "
            "that; at 0.25 s the process starts to refuse calls.",
            for_s=300,
            summary="the event loop of {{ $labels.instance }} is {{ $value | humanizeDuration }} late (p99)",
            impact="All calls and decisions of the process are late by that time.",
            cause="Too little processor time, swapping, or a step that blocks the loop.",
            action="Compare the process's CPU time with its limit, and its pauses of the garbage collector.",
        ),
        Alert(
            name="GroupbuyFileDescriptorsLow",
            severity=Severity.WARNING,
            expr=f"process_open_fds{{{JOBS}}} / process_max_fds{{{JOBS}}} > THRESHOLD",
            threshold=0.8,
            measured="A process of the local stack has about 150 open files. 8,000 connections, its own limit, need "
            "a limit of 10,000.",
            for_s=300,
            summary="{{ $labels.instance }} of {{ $labels.job }} uses {{ $value | humanizePercentage }} of its file "
            "descriptors",
            impact="Without a free descriptor the process accepts no connection and opens no file of its state.",
            cause="A limit that is too low, or callers that open many connections.",
            action="Raise the limit of open files (`LimitNOFILE`, `ulimit -n`) to 10,000 or more and restart.",
        ),
        Alert(
            name="GroupbuyCertificateExpires",
            severity=Severity.WARNING,
            expr="groupbuy_certificate_expires_timestamp_seconds - time() < THRESHOLD",
            threshold=7 * 86_400,
            measured="Seven days leave a working week to repair the renewal. Certificates of `make certificates` live "
            "30 days and are read again at each connection.",
            summary="the certificate of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}",
            impact="After that time no caller and no peer connects to the process.",
            cause="The renewal failed.",
            action="Renew the files. A restart is not needed.",
        ),
        Alert(
            name="GroupbuyWatchDown",
            severity=Severity.CRITICAL,
            expr='absent(up{job="groupbuy-watch"} == THRESHOLD)',
            threshold=1,
            measured="A restart of watch continues at its position and is ready within seconds (`make bench-watch`).",
            for_s=300,
            summary="no `groupbuy-ops watch` is up",
            impact="Nobody checks the books, the lag of dead services, or the age of holds. Other alerts on these "
            "are silent.",
            cause="The process ended, or can't be scraped.",
            action="Start it again; its state directory may be deleted.",
        ),
        Alert(
            name="GroupbuyWatchStalled",
            severity=Severity.WARNING,
            expr='sum(rate(groupbuy_watch_position_records_total{job="groupbuy-watch"}[5m])) == THRESHOLD\n'
            f"  and sum(rate(groupbuy_records_handled_total{{{JOBS}}}[5m])) > 0",
            threshold=0,
            measured="Watch folds at least 100,000 records/s (`make bench-watch`) and polls every 0.5 s.",
            for_s=300,
            summary="the services handle records and watch folds none",
            impact="Figures of books, holds and groups are old, and alerts on them are late.",
            cause="A worker process of watch is stuck or frozen, or can't reach the broker.",
            action="Read /ready and the log of watch, and restart it.",
        ),
    ),
)
