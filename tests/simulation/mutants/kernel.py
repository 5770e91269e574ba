"""Bugs planted in the kernel and in its processors: time, versions, offsets, checkpoints, timers."""

from __future__ import annotations

from eventlog.core import aggregate
from eventlog.core.partition_state import PartitionState
from eventlog.core.timers import Timers
from tests.simulation.mutants.planting import Mutant, mutant
from tests.simulation.world import faults
from tests.simulation.world.processes import DeciderProcess, EffectsProcess, Process
from tests.simulation.world.sequencers import SequencerProcess

_KEEP_A_CHECKPOINT = """process.current = False
    kept = process.checkpoint() if isinstance(process, DeciderProcess) else None
    if kept is not None:
        world.checkpoints[slot] = kept
"""

#: Harmless alone: a correct decider skips inputs that it reads again.
_READS_ALL_AGAIN = (
    Process.__init__,
    "broker.committed.get((reader, one, partition), 0)",
    '0 if hasattr(self, "fire_timers") else broker.committed.get((reader, one, partition), 0)',
)

KERNEL: tuple[Mutant, ...] = (
    mutant(
        "wall_clock",
        "decisions are made by the machine's own clock",
        (aggregate.decide, "at_ms = timestamp_ms if", 'at_ms = __import__("time").time_ns() // 1_000_000 if'),
    ),
    mutant(
        "time_runs_back",
        "a decision can be older than the one before",
        (aggregate.decide, "timestamp_ms if timestamp_ms > aggregate.time_ms else aggregate.time_ms", "timestamp_ms"),
    ),
    mutant(
        "time_of_the_last_decision",
        "an input is decided at the time of the previous decision",
        (
            aggregate.decide,
            "timestamp_ms if timestamp_ms > aggregate.time_ms else aggregate.time_ms",
            "aggregate.time_ms or timestamp_ms",
        ),
    ),
    mutant(
        "fold_by_another_time",
        "a decision is folded with another time than its own",
        (aggregate.apply, "at_ms = decision.time_ms", "at_ms = aggregate.time_ms"),
    ),
    mutant(
        "inbox_skip_off",
        "inputs that were decided are decided again",
        (aggregate.decide, "offset <= aggregate.cause", "False"),
        _READS_ALL_AGAIN,
    ),
    mutant(
        "inbox_skip_off_by_one",
        "the last decided input is decided again",
        (aggregate.decide, "offset <= aggregate.cause", "offset < aggregate.cause"),
        _READS_ALL_AGAIN,
    ),
    mutant(
        "cause_not_folded",
        "a fold forgets which input was decided last",
        (aggregate.apply, "aggregate.cause = decision.cause", "pass"),
        _READS_ALL_AGAIN,
    ),
    mutant(
        "duplicates_not_dropped",
        "a duplicate decision is folded twice",
        (aggregate.apply, "if version <= aggregate.version:", "if version < 0:"),
    ),
    mutant(
        "version_unchecked",
        "the version of a decision is not checked",
        (aggregate.apply, "version = decision.version\n", "version = aggregate.version + 1\n"),
    ),
    mutant(
        "digest_unchecked",
        "the digest of the previous decision is not checked",
        (aggregate.apply, "decision.previous_sha256 != aggregate.digest", "False"),
        (aggregate.decide, "at_ms, aggregate.digest, events)", 'at_ms, b"", events)'),
    ),
    mutant(
        "events_folded_late",
        "events are applied only after all are drawn",
        (
            aggregate._run,
            "for event in rule(state, command, given):",
            "for event in list(rule(state, command, given)):",
        ),
    ),
    mutant(
        "committed_when_fetched",
        "offsets are committed before anything is written",
        (
            Process.fetch,
            "self.handle(records, batch)",
            "self.handle(records, batch)\n    if self.current:\n"
            "        self.broker.commit(self.reader, topic, self.partition, batch.end)",
        ),
    ),
    mutant(
        "committed_before_results",
        "effects commit before their calls have ended",
        (
            EffectsProcess.handle,
            "for record in records:",
            "if self.current:\n        self.broker.commit(self.reader, batch.topic, self.partition, batch.end)\n"
            "    for record in records:",
        ),
    ),
    mutant(
        "inbox_left_behind",
        "a new owner begins at the inbox's end",
        (
            DeciderProcess.recover,
            "state.next_input = self.positions[self.inbox]",
            "state.next_input = self.positions[self.inbox] = end",
        ),
    ),
    mutant(
        "log_not_folded_to_its_end",
        "recovery stops one record short",
        (DeciderProcess.recover, "state.applied + 1 :", "state.applied + 1 : -1"),
    ),
    mutant(
        "log_not_folded",
        "recovery trusts its checkpoint alone",
        (DeciderProcess.recover, "state.applied + 1 :", "len(records) :"),
    ),
    mutant(
        "checkpoint_ahead_of_acks",
        "a stopping owner keeps a checkpoint of unwritten decisions",
        (DeciderProcess.checkpoint, "if self.outbox:", "if False:"),
        (faults._take_away, "process.current = False", _KEEP_A_CHECKPOINT),
    ),
    mutant(
        "checkpoint_without_offset",
        "a fold begins behind its checkpoint",
        (PartitionState.__init__, "self.applied = position.applied", "self.applied = position.applied + 1"),
    ),
    mutant(
        "lost_tick_not_repeated",
        "a timer fires only once",
        (Timers.pop_due, "heapq.heappush(self._heap, (again, key))", "pass"),
    ),
    mutant(
        "timer_not_moved",
        "a timer keeps its first due time",
        (Timers.schedule, "known is None or known[0] != due_ms", "known is None"),
    ),
    mutant(
        "checkpointed_timers_forgotten",
        "groups from a checkpoint have no timers",
        (PartitionState.load_timers, "timers.load(timer[1], timer[0])", "pass"),
    ),
    mutant(
        "clock_unknown_nothing_due",
        "without an estimate of the broker's time, no timer fires until a record arrives",
        (
            PartitionState.next_fire_in_ms,
            "return 0 if now_ms is None or not clock.was_acknowledged else",
            "return None if now_ms is None else",
        ),
        (PartitionState.timers_to_fire, "clock.is_stale(due_ms, monotonic_ms)", "False"),
    ),
    mutant(
        "old_record_taken_for_now",
        "the time of the last record in the log is taken for the broker's",
        (PartitionState.next_fire_in_ms, "if now_ms is None or not clock.was_acknowledged", "if now_ms is None"),
        (PartitionState.timers_to_fire, "clock.is_stale(due_ms, monotonic_ms)", "clock.now(monotonic_ms) is None"),
    ),
    mutant(
        "timers_in_one_portion",
        "only the first portion of timers is ever loaded",
        (PartitionState.load_timers, "timers.loaded_until_ms = end.value", "pass"),
    ),
    mutant(
        "digest_of_another_record",
        "a position moves on without the digest of its record",
        (PartitionState.on_acknowledged, "self.digest = digest", "pass"),
    ),
    mutant(
        "tick_swallowed",
        "due keys are found out of date",
        (PartitionState.pop_due, "if really == due_ms:", "if really is not None and really < due_ms:"),
    ),
    mutant(
        "facts_dropped_in_copying",
        "a sequencer loses every batch's first record",
        (SequencerProcess.handle, "for record in records:", "for record in records[1:]:"),
    ),
    mutant(
        "output_lost_on_flush",
        "the third record of a go never arrives",
        (
            Process.flush,
            "while outbox and taken < count:\n        out = outbox.popleft()",
            "while outbox and taken < count:\n        out = outbox.popleft()\n        if taken == 2:\n"
            "            out.batch.left -= 1\n            taken += 1\n            continue",
        ),
    ),
)
