"""Stock items as a domain of the kernel: StockInput in, StockDecision out. It holds no state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from groupbuy.inventory.v1.decisions_pb2 import StockDecision, StockEvent
from groupbuy.inventory.v1.inbox_pb2 import StockInput
from groupbuy.log.v1.log_pb2 import Tick

from services.inventory.domain.stock import events
from services.inventory.domain.stock.decide import Command, can_serve_line, decide, decode, is_repeat
from services.inventory.domain.stock.evolve import UnknownEvent, evolve
from services.inventory.domain.stock.model import StockItem


class StockDomain:
    """The rules of stock items, as the kernel calls them. Times are in milliseconds since the epoch."""

    decode_input = staticmethod(decode)
    decide = staticmethod(decide)
    evolve = staticmethod(evolve)

    def initial(self, key: str) -> StockItem:
        """A stock item that is not created."""
        return StockItem(key)

    def faulted(self, state: StockItem, command: Command, error: str) -> Iterator[StockEvent]:
        """The events of an input on which the rules failed. A group that asked gets one answer nevertheless."""
        yield events.faulted(error)
        if command.kind != "group_units" or is_repeat(state, command):
            return
        units = command.message
        yield events.heard(command.partition, units.cause, units.group)
        if units.at_least and units.group not in state.line:
            yield events.out_of_stock(units.group, units.at_least, 0, queued=False)

    def due(self, state: StockItem) -> int | None:
        """Now, while the line has answers that one decision had no room for."""
        return state.updated_ms if state.line and can_serve_line(state) else None

    def tick(self, due_ms: int) -> bytes:
        """An input that makes the decider look at the line."""
        return StockInput(tick=Tick(due_ms=due_ms)).SerializeToString()

    def encode_decision(
        self, key: str, version: int, cause: int, time_ms: int, previous_sha256: bytes, events: Iterable[StockEvent]
    ) -> bytes:
        """A StockDecision."""
        return StockDecision(
            stock=key, version=version, cause=cause, time_ms=time_ms, previous_sha256=previous_sha256, events=events
        ).SerializeToString()

    def decode_decision(self, value: bytes) -> StockDecision:
        """A StockDecision. Raises DecodeError and UnknownEvent."""
        decision = StockDecision.FromString(value)
        for event in decision.events:
            if event.WhichOneof("body") is None:
                raise UnknownEvent(f"version {decision.version} of stock {decision.stock} holds an unknown event")
        return decision
