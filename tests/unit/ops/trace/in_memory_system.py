"""The production's sequencers, deciders and effects on logs in memory, one partition, one step after the other.

The processors are the real ones without their Faust apps: `handle` decides, copies, calls and makes the headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.orders.v1.orders_pb2 import PlaceOrderRequest
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, ProviderOutcome

from chassis.outside.call_errors import ResultUnknown
from chassis.outside.resolve import RetryPolicy, resolve
from chassis.rpc.trace_context import TRACE, TraceStarter
from eventlog.consuming.decision_chain import Chains
from eventlog.core.partition_state import PartitionState
from eventlog.processors import decider as decider_module
from eventlog.processors import sequencer as sequencer_module
from eventlog.processors.base import Batch
from eventlog.processors.decider import Decider
from eventlog.records.envelope import HeaderTemplate, headers
from eventlog.records.topic_spec import TopicSpec
from eventlog.records.traceparent import TraceContext
from services.groups.domain.domain import GroupDomain
from services.groups.processors.sequencer import GroupInboxMapper
from services.orders.api.placing.event_publisher import OrderEventPublisher
from services.orders.api.placing.parsed_order import parse_order
from services.orders.domain.ids import OrderName
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.output.provider_calls import idempotency_key
from services.payments.processors.effects import PaymentEffectHandler
from services.payments.processors.sequencer import PaymentInboxMapper
from shared_kernel.topics import GROUP_INBOX, GROUP_LOG, ORDERS, PAYMENT_INBOX, PAYMENT_LOG
from tests.scenarios.facts import campaign
from tests.unit.eventlog.processors.test_decider import Fixture as BareDecider
from tests.unit.eventlog.processors.test_decider import Log
from tests.unit.eventlog.processors.test_effects import Bare as BareEffects
from tests.unit.eventlog.processors.test_sequencer import Bare as BareSequencer

START_MS = 1_700_000_000_000
PARTITION = 3
HOUR_MS = 3_600_000
TOPICS = (ORDERS, GROUP_INBOX, GROUP_LOG, PAYMENT_INBOX, PAYMENT_LOG)


class LogRecord(NamedTuple):
    """A record, as aiokafka's ConsumerRecord."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Provider:
    """Holds and captures all it is asked to, in 40 ms. The first request of each capture has no answer."""

    def __init__(self, system: InMemorySystem) -> None:
        self._system = system

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        left = [ResultUnknown("no answer")] if call.operation == pb.OPERATION_CAPTURE else []

        async def send(timeout_s: float) -> ProviderOutcome:
            self._system.now_ms += 40
            if left:
                raise left.pop()
            return self._outcome(call)

        async def look_up(timeout_s: float) -> ProviderOutcome | None:
            return None

        return await resolve(idempotency_key(call), send, look_up, RetryPolicy(wait_s=0))

    def _outcome(self, call: ProviderCall) -> ProviderOutcome:
        made = ProviderOutcome(
            order=call.order, operation=call.operation, attempt=call.attempt, origin=OUTCOME_ORIGIN_CALL
        )
        hold = call.hold or f"h-{call.order}"
        match call.operation:
            case pb.OPERATION_AUTHORISE:
                made.authorised.hold, made.authorised.amount_minor = hold, call.amount_minor
                made.authorised.currency = call.currency
                made.authorised.capturable_until_ms = START_MS + 7 * 24 * HOUR_MS
            case pb.OPERATION_CAPTURE:
                made.captured.hold, made.captured.amount_minor = hold, call.amount_minor
            case pb.OPERATION_VOID:
                made.voided.hold = hold
            case _:
                made.refunded.hold, made.refunded.amount_minor = hold, call.amount_minor
        return made


class InMemorySystem:
    """Orders, groups and payments, with a campaign for two. `share` of the traces that begin in orders is sampled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, share: float = 1.0) -> None:
        self.now_ms = START_MS
        tiers = [Tier(members=2, unit_price_minor=8_900)]
        self.campaign = campaign(name="campaigns/mug", rules_version=1, revision=1, capacity=2, tiers=tiers)
        self.logs: dict[str, list[LogRecord]] = {spec.name: [] for spec in TOPICS}
        self.orders = OrderEventPublisher(
            SimpleNamespace(),
            lambda: self.now_ms,
            TraceStarter(share),
        )
        monkeypatch.setattr(decider_module, "Output", self._output)
        monkeypatch.setattr(sequencer_module, "Output", self._output)
        monkeypatch.setattr(Decider, "producer", None)
        groups = GroupInboxMapper(ORDERS.name, lambda name: self.campaign, self._latest)
        self.deciders = {
            GROUP_INBOX.name: _decider(GroupDomain(), GROUP_INBOX, GROUP_LOG),
            PAYMENT_INBOX.name: _decider(GroupPaymentsDomain(), PAYMENT_INBOX, PAYMENT_LOG),
        }
        #: (processor, topic, next offset)
        self._readers: list[list[Any]] = [
            [_sequencer(groups, GROUP_INBOX, (ORDERS, PAYMENT_LOG)), ORDERS.name, 0],
            [self.deciders[GROUP_INBOX.name].decider, GROUP_INBOX.name, 0],
            [_sequencer(PaymentInboxMapper(), PAYMENT_INBOX, (GROUP_LOG,)), GROUP_LOG.name, 0],
            [self.deciders[PAYMENT_INBOX.name].decider, PAYMENT_INBOX.name, 0],
            [self._effects(), PAYMENT_LOG.name, 0],
            [_sequencer(groups, GROUP_INBOX, (ORDERS, PAYMENT_LOG)), PAYMENT_LOG.name, 0],
        ]

    async def _latest(self, name: str) -> Campaign:
        return self.campaign

    def place(self, trace: TraceContext | None = None, **request: Any) -> OrderName:
        """Appends the fact of an order, placed with the caller's trace."""
        fields = {"campaign": "campaigns/mug", "quantity": 1, "currency": "CNY", "max_unit_price_minor": 9_900}
        parsed = parse_order(PlaceOrderRequest(**{**fields, "payment_method": "card_ok", **request}))
        with _called_with(trace):
            record = self.orders.placed(parsed)
        self.append(ORDERS.name, record.key.encode(), record.value, list(record.headers))
        return parsed.name

    def tick(self, inbox: TopicSpec, group: str, due_ms: int) -> None:
        """Appends a tick as the decider's timer loop does, at its due time."""
        self.now_ms = max(self.now_ms, due_ms)
        made = headers(f"{group}:tick:{due_ms}", inbox.type_name, f"/{inbox.writer}", due_ms)
        self.append(inbox.name, group.encode(), self.deciders[inbox.name].decider.domain.tick(due_ms), made)

    async def decide_again(self, records: list[LogRecord]) -> None:
        """Decides the inboxes of another system, as another owner of the partition."""
        for one in records:
            if one.topic in self.deciders:
                self.logs[one.topic].append(one)
        self._readers = [reader for reader in self._readers if reader[1] in self.deciders]
        await self.run()

    async def run(self) -> None:
        """Runs every processor until no record is unread."""
        progress = True
        while progress:
            progress = False
            for reader in self._readers:
                processor, topic, offset = reader
                records = self.logs[topic][offset:]
                if records:
                    progress = True
                    reader[2] += len(records)
                    begun = await processor.handle(Batch(topic, PARTITION, records, 1))
                    await asyncio.gather(*(begun or ()))

    def records(self) -> list[LogRecord]:
        """All records, topic by topic."""
        return [record for spec in TOPICS for record in self.logs[spec.name]]

    def append(self, topic: str, key: bytes, value: bytes, made: list[tuple[str, bytes]]) -> LogRecord:
        """Appends a record, 2 ms after the one before."""
        self.now_ms += 2
        log = self.logs[topic]
        log.append(LogRecord(topic, PARTITION, len(log), self.now_ms, key, value, tuple(made)))
        return log[-1]

    def _output(
        self, producer: Any, topic: str, partition: int, acknowledged: Any = None, *, raises: bool = False
    ) -> Any:
        pending: list[tuple[bytes, bytes, Any, Any]] = []

        def append(key: bytes, value: bytes, made: Any, mark: object = None) -> None:
            pending.append((key, value, made, mark))

        async def send(*, full: bool = False) -> list[asyncio.Future[Any]]:
            if full or not pending:
                return []
            sent = [self.append(topic, key, value, list(made)) for key, value, made, _ in pending]
            if acknowledged is not None:
                acknowledged(sent[0].offset, len(sent), sent[-1].timestamp, pending[-1][3])
            pending.clear()
            done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return [done]

        return SimpleNamespace(append=append, send=send, full=False)

    def _effects(self) -> BareEffects:
        handler = PaymentEffectHandler(lambda method: Provider(self), lambda: self.now_ms)
        made = BareEffects(handler, self)  # type: ignore[arg-type] # a handler and a producer, as in production
        made._inbox = PAYMENT_INBOX
        made._chains = Chains("")
        made.app = SimpleNamespace(consumer=SimpleNamespace(committed_at_start=lambda tp: 0))
        return made

    async def send(self, topic: str, value: bytes, *, key: bytes, partition: int, headers: Any) -> Any:
        """The producer of the effects."""
        self.append(topic, key, value, headers)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


@contextmanager
def _called_with(trace: TraceContext | None) -> Iterator[None]:
    token = TRACE.set(trace)
    try:
        yield
    finally:
        TRACE.reset(token)


def _decider(domain: Any, inbox: TopicSpec, log: TopicSpec) -> BareDecider:
    state: PartitionState[Any] = PartitionState(domain, PARTITION, inbox=inbox.name, log=log.name)
    state.next_input = 0
    made = BareDecider(Log(), state)
    made.decider._inbox, made.decider._log = inbox, log
    made.decider._stamp = HeaderTemplate(log.type_name, f"/{log.writer}")
    return made


def _sequencer(mapper: Any, inbox: TopicSpec, sources: tuple[TopicSpec, ...]) -> BareSequencer:
    made = BareSequencer()
    made._inbox, made._mapper = inbox, mapper
    made._chains = Chains("")
    made._dead_letter = {source.name: f"{source.name}.dlq" for source in sources}
    return made
