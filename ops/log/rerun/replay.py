"""`replay`: runs the production rules over every inbox again and compares the decisions with the logs, byte for byte.

`audit` has rules of its own. `replay` uses those of the services: it proves that they, and nothing else, made the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from time import monotonic
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from eventlog.core.aggregate import Aggregate, Domain, decide
from eventlog.core.errors import InvariantViolation
from eventlog.records.topic_spec import TopicSpec
from ops.broker.connection import at_broker
from ops.errors import DOES_NOT_HOLD
from ops.log.reader import Reader, skips
from ops.terminal.output import Json, Output
from ops.terminal.rich_console import labelled
from ops.where import Kafka, broker
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG, PAYMENT_INBOX, PAYMENT_LOG

_DIGEST_BYTES = 32
MAX_SHOWN = 20


@dataclass(slots=True)
class Replayed:
    """The result of replaying one inbox."""

    log: str
    aggregates: int = 0
    inputs: int = 0
    decisions: int = 0
    #: Decisions that are not in the log yet.
    not_yet_logged: int = 0
    #: Aggregates whose first input is no longer in the inbox.
    skipped: int = 0
    differences: list[str] = field(default_factory=list)
    #: Stopped partitions, with the reason.
    stopped: list[str] = field(default_factory=list)


class Replay:
    """Replays one inbox against one decision log. Takes batches of records, first those of the log."""

    def __init__(self, domain: Domain[Any], log: TopicSpec, skipped: Collection[Any] = ()) -> None:
        """`skipped` are partition, offset and SHA-256 of the inputs with a recorded skip."""
        self._domain = domain
        self._log = log
        self._skipped = frozenset(skipped)
        self._aggregates: dict[str, Aggregate[Any]] = {}
        #: Concatenated digests of versions 1, 2, 3 … of each aggregate.
        self._logged: dict[str, bytearray] = {}
        self._first_cause: dict[str, tuple[int, int]] = {}
        self._unknown: set[str] = set()
        #: Partitions with an input that the rules can't decode.
        self._stopped: set[int] = set()
        self.result = Replayed(log.name)

    def take_log(self, records: Iterable[Any]) -> None:
        """Takes decisions of the log. Ignores duplicates, which `audit` checks."""
        for record in records:
            try:
                key = record.key.decode()
                decision = self._domain.decode_decision(record.value)
            except Exception as error:  # noqa: BLE001 - whatever the domain raises
                place = f"{self._log.name} {record.partition}:{record.offset}"
                self.result.differences.append(f"{place}: can't be decoded: {error!r}")
                continue
            logged = self._logged.setdefault(key, bytearray())
            if decision.version == len(logged) // _DIGEST_BYTES + 1:
                logged += sha256(record.value).digest()
                self._first_cause.setdefault(key, (record.partition, decision.cause))
            elif decision.version > len(logged) // _DIGEST_BYTES:
                self._unknown.add(key)

    def inbox_begins_at(self, partition: int, offset: int) -> None:
        """Omits the aggregates that began before the first input that is still in the inbox."""
        self._unknown |= {key for key, (at, cause) in self._first_cause.items() if at == partition and cause < offset}

    def take_inbox(self, records: Iterable[Any]) -> None:
        """Decides inputs again and compares."""
        result = self.result
        for record in records:
            result.inputs += 1
            if self._skipped and (record.partition, record.offset, _digest(record)) in self._skipped:
                # A skipped input yields no decision.
                continue
            if record.partition in self._stopped:
                continue
            key = (record.key or b"").decode(errors="replace")
            if key in self._unknown:
                continue
            aggregate = self._aggregates.get(key)
            if aggregate is None:
                aggregate = self._aggregates[key] = Aggregate(key, self._domain.initial(key))
            try:
                sealed = decide(self._domain, aggregate, record.value or b"", record.offset, record.timestamp)
            except InvariantViolation:
                why = undecodable(self._domain, record)
                if not why:
                    raise
                # Deciders stop the partition there too, and decide no later input.
                self._stopped.add(record.partition)
                result.stopped.append(f"partition {record.partition} stops at input {record.offset}: {why}")
                continue
            if sealed is None:
                continue
            result.decisions += 1
            at = (aggregate.version - 1) * _DIGEST_BYTES
            wanted = self._logged.get(key, b"")[at : at + _DIGEST_BYTES]
            if not wanted:
                result.not_yet_logged += 1
            elif wanted != aggregate.digest:
                result.differences.append(f"{self._log.name} {key}: version {aggregate.version} is decided differently")
                # All later versions differ too: report only the first.
                self._unknown.add(key)

    def finish(self) -> Replayed:
        """Adds the decisions of the log that no input yields."""
        result = self.result
        result.aggregates = len(self._logged)
        result.skipped = len(self._unknown) - len(result.differences)
        for key, logged in self._logged.items():
            versions = len(logged) // _DIGEST_BYTES
            replayed = self._aggregates[key].version if key in self._aggregates else 0
            if key not in self._unknown and replayed < versions:
                result.differences.append(f"{self._log.name} {key}: {versions - replayed} decisions without an input")
        return result

    def digest(self) -> bytes:
        """SHA-256 over every aggregate's key, version and last digest. Equal logs have equal digests."""
        whole = sha256()
        for key in sorted(self._logged):
            logged = self._logged[key]
            whole.update(f"{key} {len(logged) // _DIGEST_BYTES} ".encode() + logged[-_DIGEST_BYTES:])
        return whole.digest()


def domains() -> list[tuple[TopicSpec, TopicSpec, Any]]:
    """Inbox, decision log and production rules of each decider."""
    from services.groups.domain.domain import GroupDomain
    from services.payments.domain.domain import GroupPaymentsDomain

    return [(GROUP_INBOX, GROUP_LOG, GroupDomain()), (PAYMENT_INBOX, PAYMENT_LOG, GroupPaymentsDomain())]


def undecodable(domain: Any, record: Any) -> str:
    """The reason why a decider can't decode an input; empty if it can."""
    if record.key is None or record.value is None:
        return "it has no key or no value"
    try:
        record.key.decode()
        domain.decode_input(record.value)
    except Exception as error:  # noqa: BLE001 - as the kernel: whatever the domain raises
        return repr(error)
    return ""


def _digest(record: Any) -> bytes:
    return sha256(record.value or b"").digest()


def replay(kafka: Kafka = None, json: Json = False) -> None:
    """Runs the rules over every inbox again and checks that each decision is identical, byte for byte.

    The last line is one JSON object.

    Reads the inboxes and the decision logs.

    Changes nothing.

    Exit codes: 0 all decisions are identical, 1 a decision differs, 2 cannot run.

    Example: groupbuy-ops replay
    """
    begun, out = monotonic(), Output(json)
    address = broker(kafka)
    results: list[Replayed] = []
    digest = sha256()
    for inbox, log, domain in domains():
        played = at_broker(address, partial(replayed, address, inbox, log, domain))
        results.append(played.finish())
        digest.update(played.digest())
    _print(out, results)
    figures = {
        "aggregates": sum(result.aggregates for result in results),
        "inputs": sum(result.inputs for result in results),
        "decisions": sum(result.decisions for result in results),
        "differences": sum(len(result.differences) for result in results),
        "skipped": sum(result.skipped for result in results),
        "stopped": sum(len(result.stopped) for result in results),
        "digest": digest.hexdigest(),
        "seconds": round(monotonic() - begun, 2),
    }
    out.figures(figures)
    if figures["differences"]:
        raise typer.Exit(DOES_NOT_HOLD)


async def replayed(kafka: str, inbox: TopicSpec, log: TopicSpec, domain: Domain[Any]) -> Replay:
    """Replays one inbox of a broker up to its current end."""
    skipped = await skips(kafka)
    played = Replay(domain, log, [tuple(place) for topic, *place in skipped if topic == inbox.name])
    # The log first: an input that is decided meanwhile counts as not logged yet, and not as a difference.
    async with Reader(kafka, [log.name], skipped=skipped) as reader:
        await reader.read_to_end(lambda _topic, records: played.take_log(records))
    async with Reader(kafka, [inbox.name]) as reader:
        for (_topic, partition), offset in (await reader.beginnings()).items():
            played.inbox_begins_at(partition, offset)
        await reader.read_to_end(lambda _topic, records: played.take_inbox(records))
    return played


def _print(out: Output, results: list[Replayed]) -> None:
    table = Table(title="Replay with the production rules", title_justify="left")
    for column in ("decision log", "groups", "inputs", "decisions", "not logged yet", "omitted", "different"):
        table.add_column(column, justify="left" if column == "decision log" else "right")
    for result in results:
        counts = (result.aggregates, result.inputs, result.decisions, result.not_yet_logged, result.skipped)
        different = len(result.differences)
        verdict = Text(str(different), style="bold red" if different else "green")
        table.add_row(result.log, *(f"{count:,}" for count in counts), verdict)
    out.show(table)
    for result in results:
        for stopped in result.stopped:
            out.show(labelled("stopped", "bold yellow", f"{result.log} {stopped}"))
            out.record({"stopped": stopped, "decision_log": result.log})
        for difference in result.differences:
            out.record({"different": difference, "decision_log": result.log})
        for difference in result.differences[:MAX_SHOWN]:
            out.show(labelled("different", "bold red", difference))
        if (more := len(result.differences) - MAX_SHOWN) > 0:
            out.line(f"and {more} more in {result.log}")
