"""The payments of a group as a domain of the kernel: PaymentInput in, PaymentDecision out. It holds no state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from services.payments.domain import rules_version
from services.payments.domain.decide import Command, decide, decode
from services.payments.domain.errors import UnknownInput
from services.payments.domain.folds.evolve import evolve
from services.payments.domain.output import events, provider_events
from services.payments.domain.state.model import GroupPayments


class GroupPaymentsDomain:
    """The rules of payments, as the kernel calls them. Times are in milliseconds since the epoch."""

    def initial(self, key: str) -> GroupPayments:
        """State of a group without payments."""
        return GroupPayments(key)

    def decode_input(self, value: bytes) -> Command:
        """The content of a PaymentInput. Raises DecodeError and UnknownInput."""
        return decode(value)

    def decide(self, state: GroupPayments, command: Command, at_ms: int) -> Iterator[PaymentEvent]:
        """Events that follow from an input. Raises Impossible."""
        return decide(state, command, at_ms)

    def evolve(self, state: GroupPayments, event: PaymentEvent, at_ms: int) -> None:
        """Applies an event in place."""
        evolve(state, event)

    def faulted(self, state: GroupPayments, command: Command, error: str) -> Iterable[PaymentEvent]:
        """The event for an input on which the rules failed. It changes no payment."""
        failed = events.faulted(error)
        if state.rules_version or command.rules_version == rules_version.FIRST:
            return (failed,)
        return (provider_events.rules_selected(command.rules_version), failed)

    def due(self, state: GroupPayments) -> int | None:
        """When the next retry, refund or return is due; None: nothing waits."""
        if not state.timers:
            return state.retries[0][0] if state.retries else None
        return state.due_ms()

    def tick(self, due_ms: int) -> bytes:
        """An input that makes the decider look at the time."""
        return PaymentInput(tick=Tick(due_ms=due_ms)).SerializeToString(deterministic=True)

    def encode_decision(
        self, key: str, version: int, cause: int, time_ms: int, previous_sha256: bytes, events: list[PaymentEvent]
    ) -> bytes:
        """A decision's bytes."""
        return PaymentDecision(
            group=key, version=version, cause=cause, time_ms=time_ms, previous_sha256=previous_sha256, events=events
        ).SerializeToString(deterministic=True)

    def decode_decision(self, value: bytes) -> PaymentDecision:
        """A decision. Raises DecodeError and UnknownInput."""
        decision = PaymentDecision.FromString(value)
        for event in decision.events:
            if event.WhichOneof("body") is None:
                version, group = decision.version, decision.group
                raise UnknownInput(f"version {version} of the payments of group {group} holds an unknown event")
            if event.HasField("rules_selected"):
                rules_version.check(event.rules_selected.rules_version)
        return decision
