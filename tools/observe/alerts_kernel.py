"""Alerts about the event log's readers: lag, stuck partitions, bad records, checkpoints, leases, timers."""

from __future__ import annotations

from tools.observe.alert import Alert, Group, Severity

KERNEL = Group(
    "groupbuy-kernel",
    (
        Alert(
            name="GroupbuyConsumerBehind",
            severity=Severity.CRITICAL,
            expr="max by (consumer_group) (groupbuy_watch_lag_seconds) > THRESHOLD",
            threshold=30,
            drill_threshold=4,
            measured="In seconds, as records say nothing without a rate. Half of the highest load charges a full group "
            "in 227 ms (`make bench-settle`); a killed service is back after 4 s (`make demo`).",
            for_s=120,
            summary="{{ $labels.consumer_group }} reads records of {{ $value | humanizeDuration }} ago",
            impact="Seats, holds and captures are late by that time. Nothing is lost.",
            cause="Too few replicas for the load, a frozen or dead process, or a partition that a bad record stops.",
            action="`groupbuy-ops lag` shows the partition and its owner.",
        ),
        Alert(
            name="GroupbuyConsumerStuck",
            severity=Severity.CRITICAL,
            expr="sum by (consumer_group) (groupbuy_watch_lag_records) > THRESHOLD\n"
            "  unless sum by (consumer_group) (rate(groupbuy_watch_committed_records_total[5m])) > 0",
            threshold=0,
            measured="A group with records to read commits every few seconds; after a freeze of 10 s or a lost "
            "checkpoint of 1,000,000 groups it is back within 32 s (`make bench-recover`).",
            for_s=300,
            summary="{{ $labels.consumer_group }} has {{ $value }} records to read and reads none",
            impact="This step of every order stands still.",
            cause="The process is stuck, restarts again and again, or can't commit.",
            action="`groupbuy-ops lag` names the owner; read its last log lines.",
        ),
        Alert(
            name="GroupbuyConsumerWithoutMember",
            severity=Severity.CRITICAL,
            expr="groupbuy_watch_members < THRESHOLD",
            threshold=1,
            measured="A dead member leaves its group when its session of 10 s expires; a restarted one joins within "
            "4 s (`make demo`).",
            for_s=60,
            summary="{{ $labels.consumer_group }} has no member",
            impact="This step of every order stands still.",
            cause="No process of the service runs, or none can reach the broker.",
            action="Start the service. Its log says why it ended.",
        ),
        Alert(
            name="GroupbuyPartitionQuarantined",
            severity=Severity.CRITICAL,
            expr="sum by (job, consumer_group) (groupbuy_partitions_quarantined) > THRESHOLD",
            threshold=0,
            measured="No record of ours quarantines a partition: 0 in every chaos run (`make chaos`).",
            summary="{{ $labels.consumer_group }} stopped {{ $value }} partitions at a bad record",
            impact="No group of these partitions is decided or paid. Other partitions go on.",
            cause="A record that no process of ours wrote, or one of a newer build.",
            action="`groupbuy-ops verify` names the record and the way out. Deploy the newer build, or skip it.",
        ),
        Alert(
            name="GroupbuyDeadLetters",
            severity=Severity.CRITICAL,
            expr="sum by (consumer_group, topic) (increase(groupbuy_dead_letters_total[15m])) > THRESHOLD",
            threshold=0,
            measured="Producers write no record that can't be decoded: 0 in every chaos run (`make chaos`).",
            summary="{{ $labels.consumer_group }} could not decode records of {{ $labels.topic }}",
            impact="These orders get no decision until the records are redriven.",
            cause="A foreign writer, or a producer that is newer than the reader.",
            action="`groupbuy-ops dlq list`; deploy the build that can decode them, then redrive.",
        ),
        Alert(
            name="GroupbuyRulesFaulted",
            severity=Severity.CRITICAL,
            expr='sum by (consumer_group) (increase(groupbuy_decisions_total{outcome="faulted"}[15m])) > THRESHOLD',
            threshold=0,
            measured="The rules raise in no simulated history (`make simulate`, `make fuzz`).",
            summary="the rules raised an exception in {{ $labels.consumer_group }}",
            impact="The group of that input is cancelled if it was forming, and its holds are voided. Other groups "
            "go on.",
            cause="A defect in the rules of this build.",
            action="Find the group and the exception in the log, and roll back a new build.",
        ),
        Alert(
            name="GroupbuyCheckpointOld",
            severity=Severity.WARNING,
            expr="max by (job, instance, consumer_group) (groupbuy_checkpoint_age_seconds) > THRESHOLD",
            threshold=900,
            drill_threshold=24,
            measured="A change is checkpointed after 20 s. Folding takes 32 s a million changed groups "
            "(`make bench-recover`), so 15 minutes are harmless until the next restart.",
            for_s=300,
            summary="{{ $labels.instance }} has no checkpoint of {{ $labels.consumer_group }} for "
            "{{ $value | humanizeDuration }}",
            impact="A restart folds the log since then, and is late by that time. Nothing is lost.",
            cause="The disk of the state directory is slow or stuck, or the broker does not acknowledge output.",
            action="Read /ready of the process, then `df` and `iostat` of its state directory.",
        ),
        Alert(
            name="GroupbuyRecoverySlow",
            severity=Severity.WARNING,
            expr="max by (job, instance, consumer_group) (groupbuy_recovering_seconds) > THRESHOLD",
            threshold=60,
            drill_threshold=3,
            measured="1.9 s with a checkpoint of 1,000,000 open groups, 32 s without one (`make bench-recover`).",
            summary="{{ $labels.instance }} recovers {{ $labels.consumer_group }} for {{ $value | humanizeDuration }}",
            impact="Its partitions decide nothing until they are recovered.",
            cause="The state directory is new or was set aside, or the broker is slow.",
            action="Read /ready and the log of the process: it names the partitions that are folded.",
        ),
        Alert(
            name="GroupbuyTimersLate",
            severity=Severity.CRITICAL,
            expr="max by (job, consumer_group) (groupbuy_timers_late_seconds) > THRESHOLD",
            threshold=30,
            drill_threshold=4,
            measured="A tick fires within 1 s without load; after a kill it is late by the recovery, 1.9 to 32 s "
            "(`make bench-recover`).",
            for_s=60,
            summary="timers of {{ $labels.consumer_group }} are {{ $value | humanizeDuration }} late",
            impact="Groups neither expire nor close at their deadline, and holds are not retried.",
            cause="The broker does not acknowledge ticks, or the process is overloaded.",
            action="`groupbuy-ops lag` shows whether the broker answers; read /ready of the process.",
        ),
        Alert(
            name="GroupbuyNoLease",
            severity=Severity.WARNING,
            expr="min by (job, instance, consumer_group) (groupbuy_lease_remaining_seconds) < THRESHOLD",
            threshold=2,
            measured="A heartbeat is answered every 3 s and gives 10 s, so 7 s remain in normal operation.",
            for_s=30,
            summary="{{ $labels.instance }} can't be certain that it owns the partitions of "
            "{{ $labels.consumer_group }}",
            impact="Reads answer NOT_READY rather than old values. Writes go on.",
            cause="The broker or the network to it is slow, or the process was frozen.",
            action="`groupbuy-ops lag` shows whether the broker answers and who the owners are.",
        ),
    ),
)
