"""Allowances as a domain of the kernel: AllowanceInput in, AllowanceDecision out. It holds no state."""

from __future__ import annotations

from collections.abc import Iterable

from groupbuy.inventory.v1.decisions_pb2 import AllowanceDecision, AllowanceEvent
from groupbuy.inventory.v1.inbox_pb2 import AllowanceInput
from groupbuy.log.v1.log_pb2 import Tick

from services.inventory.domain.allowance.decide import decide, decode, fault
from services.inventory.domain.allowance.evolve import UnknownEvent, evolve
from services.inventory.domain.allowance.model import Allowance


class AllowanceDomain:
    """The rules of allowances, as the kernel calls them."""

    decode_input = staticmethod(decode)
    decide = staticmethod(decide)
    evolve = staticmethod(evolve)
    faulted = staticmethod(fault)

    def initial(self, key: str) -> Allowance:
        """The allowance of a customer without orders."""
        return Allowance()

    def due(self, state: Allowance) -> int | None:
        """None: an allowance has no timers."""
        return None

    def tick(self, due_ms: int) -> bytes:
        """An input without effect."""
        return AllowanceInput(tick=Tick(due_ms=due_ms)).SerializeToString()

    def encode_decision(
        self, key: str, version: int, cause: int, time_ms: int, previous_sha256: bytes, events: Iterable[AllowanceEvent]
    ) -> bytes:
        """An AllowanceDecision."""
        return AllowanceDecision(
            allowance=key, version=version, cause=cause, time_ms=time_ms, previous_sha256=previous_sha256, events=events
        ).SerializeToString()

    def decode_decision(self, value: bytes) -> AllowanceDecision:
        """An AllowanceDecision. Raises DecodeError and UnknownEvent."""
        decision = AllowanceDecision.FromString(value)
        for event in decision.events:
            if event.WhichOneof("body") is None:
                raise UnknownEvent(f"version {decision.version} of {decision.allowance} holds an unknown event")
        return decision
