"""The checks of `verify`, of each record alone and of each group's chain. Pure: the caller reads the topics.

A finding has a place, a kind and a way out. A record with a recorded skip yields no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.registry.v1.registry_pb2 import RegistryRecord

from eventlog.core.partitioner import partition_of
from eventlog.producing.batch_output import RECORD_BYTES
from eventlog.records.dead_letters import HEADER_BYTES
from eventlog.records.topic_spec import TopicSpec
from ops.log.rerun.replay import domains
from shared_kernel import campaign_table, log_registry
from shared_kernel.topics import CAMPAIGNS, GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG, REGISTRY

LOGS = (GROUP_LOG, PAYMENT_LOG)
INBOXES = (GROUP_INBOX, PAYMENT_INBOX)
#: The end of the year 9999 in milliseconds since the epoch, and the greatest amount of any order.
MAX_MS = 253_402_300_799_999
MAX_MINOR = 10**18
#: The contract's limits of a campaign.
MAX_SEATS, MAX_PIECES = 2_000, 10_000


class Kind(StrEnum):
    """The kinds of findings."""

    COUNT = "number of partitions"
    HOLE = "hole"
    NO_KEY = "no key"
    BAD_KEY = "bad key"
    WRONG_PARTITION = "wrong partition"
    NO_VALUE = "no value"
    UNDECODABLE = "undecodable"
    UNKNOWN = "unknown content"
    FOREIGN = "foreign name"
    NUMBERS = "absurd number"
    SIZE = "size"
    FORK = "fork"
    GAP = "gap"
    CHAIN = "broken chain"
    ORDER = "order"


#: A reader stops at such a record, independent of the records before it.
UNTAKEN = frozenset({Kind.UNDECODABLE, Kind.UNKNOWN, Kind.NO_VALUE, Kind.NO_KEY, Kind.BAD_KEY})


class Finding(NamedTuple):
    """One finding."""

    topic: str
    #: -1 for the topic as a whole.
    partition: int
    offset: int
    kind: Kind
    what: str

    @property
    def place(self) -> str:
        """`topic partition:offset`, or the topic."""
        return self.topic if self.partition < 0 else f"{self.topic} {self.partition}:{self.offset}"

    @property
    def way_out(self) -> str:
        """Instructions for the operator."""
        place = f"{self.topic} {self.partition} {self.offset}"
        skip = f"only if it is proven to be foreign: `groupbuy-ops skip {place} --reason …`"
        without = f"`groupbuy-ops topics rebuild --without {self.topic}:{self.partition}:{self.offset}`"
        ways = {
            "count": "`groupbuy-ops topics rebuild` restores the declared number",
            "campaign": "services keep the valid version: `groupbuy-ops campaigns restore` writes it again",
            "registry": f"services ignore it; stop them and remove it: {without}",
            "hole": "find out what deleted records; restore the topic from a copy",
            "untaken": f"deploy a build that can decode it; {skip}",
            "chain": f"`groupbuy-ops replay` reports which one is foreign; stop the services and remove it: {without}",
            "taken": "nothing to repair: it was processed as it is; find out who wrote it",
            "fact": "its readers dead-letter it: `groupbuy-ops dlq show`",
        }
        return ways[self._way]

    @property
    def _way(self) -> str:
        of_topic = {CAMPAIGNS.name: "campaign", REGISTRY.name: "registry"}.get(self.topic)
        if self.kind in {Kind.COUNT, Kind.HOLE} or of_topic:
            return {Kind.COUNT: "count", Kind.HOLE: "hole"}.get(self.kind) or of_topic or ""
        if self.topic in {one.name for one in (*LOGS, *INBOXES)} and self.kind in UNTAKEN:
            return "untaken"
        if self.topic in {log.name for log in LOGS}:
            return "chain"
        return "taken" if self.topic in {inbox.name for inbox in INBOXES} else "fact"


class Context(NamedTuple):
    """The facts about other topics that a check of one topic needs."""

    partitions: int
    #: End offsets by topic and partition, read after the ends of the checked records.
    ends: Mapping[tuple[str, int], int]
    #: Topic, partition, offset and digest of records with a recorded skip.
    skipped: frozenset[tuple[str, int, int, bytes]]
    #: Decoders of inboxes and decision logs by the production rules, by topic. They raise on invalid bytes.
    decoders: Mapping[str, Callable[[bytes], object]]

    @classmethod
    def of_one(cls, partitions: int) -> Context:
        """A context for the check of one record, without its references to others."""
        return cls(partitions, {}, frozenset(), decoders())

    def skips(self, spec: TopicSpec, record: Any) -> bool:
        """Whether the record has a recorded skip."""
        place = spec.name, record.partition, record.offset
        return (
            any(one[:3] == place for one in self.skipped)
            and (
                *place,
                sha256(record.value or b"").digest(),
            )
            in self.skipped
        )


def decoders() -> dict[str, Callable[[bytes], object]]:
    """Decoders of inboxes and decision logs, by topic."""
    found: dict[str, Callable[[bytes], object]] = {}
    for inbox, log, domain in domains():
        found[inbox.name], found[log.name] = domain.decode_input, domain.decode_decision
    return found


def check(spec: TopicSpec, record: Any, context: Context) -> Iterator[Finding]:
    """The findings about one record alone."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    wrong: list[tuple[Kind, str]] = []
    if len(record.value or b"") > RECORD_BYTES or headers > HEADER_BYTES:
        wrong.append((Kind.SIZE, f"{len(record.value or b'')} bytes, and {headers} of headers"))
    # A dead letter may have any bytes and any key.
    if spec.message is not None:
        key, of_key = _key(spec, record, context)
        wrong += [*of_key, *_value(spec, record, key, context)]
    for kind, what in wrong:
        yield Finding(spec.name, record.partition, record.offset, kind, what)


def _key(spec: TopicSpec, record: Any, context: Context) -> tuple[str, list[tuple[Kind, str]]]:
    if record.key is None:
        return "", [(Kind.NO_KEY, "it has no key")]
    try:
        key: str = record.key.decode()
    except UnicodeDecodeError as error:
        return "", [(Kind.BAD_KEY, f"its key {record.key[:40]!r} is not text: {error.reason}")]
    wrong = []
    if spec not in (CAMPAIGNS, REGISTRY) and not _is_uuid(key):
        wrong.append((Kind.BAD_KEY, f"its key {key[:80]!r} is not a group's id"))
    right = partition_of(key, context.partitions)
    if right != record.partition:
        wrong.append((Kind.WRONG_PARTITION, f"its key {key[:80]!r} belongs to partition {right}"))
    return key, wrong


def _value(spec: TopicSpec, record: Any, key: str, context: Context) -> Iterator[tuple[Kind, str]]:
    if record.value is None:
        yield Kind.NO_VALUE, "it has no value"
        return
    assert spec.message is not None
    try:
        message: Any = spec.message.FromString(record.value)
    except DecodeError as error:
        yield Kind.UNDECODABLE, f"its {len(record.value)} bytes are not a valid {spec.message.DESCRIPTOR.name}: {error}"
        return
    if why := _unknown(spec, message, record.value, context):
        yield Kind.UNKNOWN, why
    if why := _foreign(spec, key, message):
        yield Kind.FOREIGN, why
    for why in _absurd(message, context):
        yield Kind.NUMBERS, why
    if spec in LOGS:
        inbox = INBOXES[LOGS.index(spec)].name
        if not 0 <= message.cause < context.ends.get((inbox, record.partition), 0):
            yield Kind.NUMBERS, f"its cause {message.cause} is not an offset of {inbox}"


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _unknown(spec: TopicSpec, message: Any, value: bytes, context: Context) -> str:
    decoder = context.decoders.get(spec.name)
    if decoder is not None:
        try:
            decoder(value)
        except Exception as error:  # noqa: BLE001 - as the kernel: whatever the domain raises
            return f"this build can't decode it: {error!r}"
    if isinstance(message, OrderFact | RegistryRecord) and message.WhichOneof("body") is None:
        return "it has no field that this build can decode"
    if spec in LOGS and not message.events:
        return "a decision without an event"
    return ""


def _foreign(spec: TopicSpec, key: str, message: Any) -> str:
    if isinstance(message, Campaign):
        return campaign_table.mismatch(key, message)
    if isinstance(message, RegistryRecord):
        return log_registry.mismatch(key, message) if message.WhichOneof("body") else ""
    if spec is ORDERS or spec in LOGS:
        return "" if message.group == key else f"it is of the group {message.group[:80]!r}, not of its key"
    return ""


def _absurd(message: Message, context: Context, path: str = "") -> Iterator[str]:
    """Findings about numbers that no service of ours writes."""
    for field, value in message.ListFields():
        name = f"{path}{field.name}"
        if field.message_type is not None:
            if field.message_type.full_name.startswith("google.protobuf."):
                continue
            for one in value if field.is_repeated else (value,):
                if field.message_type.full_name == "groupbuy.log.v1.Source":
                    end = context.ends.get((one.topic, one.partition))
                    if end is None or not 0 <= one.offset < end:
                        yield f"{name} is {one.topic[:80]} {one.partition}:{one.offset}, where there is no record"
                else:
                    yield from _absurd(one, context, f"{name}.")
        elif field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_INT32):
            most = _most(field.name)
            for number in value if field.is_repeated else (value,):
                if not 0 <= number <= most:
                    yield f"{name} is {number}"


def _most(name: str) -> int:
    if name.endswith("_ms"):
        return MAX_MS
    if name.endswith("_minor"):
        return MAX_MINOR
    if name in {"capacity", "members", "tier_members", "house_fill_members", "settled", "failed", "seats_per_customer"}:
        return MAX_SEATS
    if name in {"quantity", "max_quantity"}:
        return MAX_PIECES
    return 2**62


class _Chain(NamedTuple):
    version: int
    digest: bytes
    cause: int
    time_ms: int


class Chains:
    """The chains of decisions of one partition, with bounded memory: further passes check the keys beyond `most`.

    Read the partition once per pass: `while chains.next_pass(): for record in …: chains.take(record)`.
    """

    def __init__(self, spec: TopicSpec, most: int) -> None:
        self._spec = spec
        self._most = most
        self._left: list[tuple[int, int]] = [(0, 1)]
        self._bucket, self._of = 0, 1
        self._known: dict[bytes, _Chain] = {}
        self.passes = 0

    def next_pass(self) -> bool:
        """Starts the next pass. Returns False if there is none."""
        if not self._left:
            return False
        self._bucket, self._of = self._left.pop()
        self._known.clear()
        self.passes += 1
        return True

    def take(self, record: Any) -> Finding | None:
        """Takes the next decodable record. Returns a finding about its place in the group's chain, or None."""
        key = record.key or b""
        if self._of > 1 and _hash(key) % self._of != self._bucket:
            return None
        known = self._known.get(key)
        if known is None:
            self._make_room()
            if _hash(key) % self._of != self._bucket:
                return None
            known = _Chain(0, b"", -1, 0)
        message: Any = self._spec.message
        decision = message.FromString(record.value)
        digest = sha256(record.value).digest()
        kind, what = self._compare(known, decision, digest)
        if decision.version > known.version:
            # Also after a gap: it is reported once, and later records are compared with this one.
            self._known[key] = _Chain(decision.version, digest, decision.cause, decision.time_ms)
        if kind is None:
            return None
        return Finding(self._spec.name, record.partition, record.offset, kind, what)

    @staticmethod
    def _compare(known: _Chain, decision: Any, digest: bytes) -> tuple[Kind | None, str]:
        version = decision.version
        if 0 < version == known.version and digest != known.digest:
            return Kind.FORK, f"a second, different decision of version {version}"
        if 0 < version <= known.version:
            return None, ""
        if version != known.version + 1:
            return Kind.GAP, f"version {version} after {known.version}"
        if decision.previous_sha256 != known.digest:
            return Kind.CHAIN, f"version {version} does not have the digest of the version before"
        if decision.cause <= known.cause or decision.time_ms < known.time_ms:
            return Kind.ORDER, f"version {version} has an earlier cause or time than version {known.version}"
        return None, ""

    def _make_room(self) -> None:
        while len(self._known) >= self._most:
            self._left.append((self._bucket + self._of, 2 * self._of))
            self._of *= 2
            self._known = {key: one for key, one in self._known.items() if _hash(key) % self._of == self._bucket}


def _hash(key: bytes) -> int:
    return int.from_bytes(sha256(key).digest()[:8], "big")
