"""The group domain as the kernel runs it: bytes to inputs, inputs to events, events to state and to decisions.

It has no state of its own. Must never do anything twice differently: the same state, input and time give the same bytes
on every machine, for ever, which is why the rules are picked by the version that a group has frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from groupbuy.groups.v1.decisions_pb2 import (
    REFUSAL_REASON_GROUP_CANCELLED,
    REFUSAL_REASON_UNREADABLE,
    GroupDecision,
    GroupEvent,
)
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.log.v1.log_pb2 import Tick

from services.groups.domain import events
from services.groups.domain.command import Command, decode
from services.groups.domain.decide import VERSION_1, Rules
from services.groups.domain.evolve import UnknownEvent, evolve
from services.groups.domain.model import OrderStatus, Phase, State
from services.groups.domain.terms import DEFAULT_RULES_VERSION, RULES_VERSIONS, UnknownRules

RULES: Mapping[int, Rules] = {1: VERSION_1}
if RULES.keys() != RULES_VERSIONS:
    raise RuntimeError("terms.RULES_VERSIONS is not what there are rules for")

_EVENT_TAG = GroupDecision.EVENTS_FIELD_NUMBER << 3 | 2
#: What stands before an event in a decision, by the event's length in bytes; long ones are left to protobuf.
_EVENT_HEADS = [
    bytes((_EVENT_TAG, length) if length < 128 else (_EVENT_TAG, length & 127 | 128, length >> 7))
    for length in range(4_096)
]


class GroupDomain:
    """Decider domain of groups: GroupInput in, GroupDecision out, one State a group."""

    #: The functions themselves: a method around each would be called for every input, and for every event.
    decode_input = staticmethod(decode)
    evolve = staticmethod(evolve)

    def initial(self, key: str) -> State:
        """A group that nothing has happened to."""
        return State()

    def decide(self, state: State, command: Command, at_ms: int) -> Iterable[GroupEvent]:
        """Events of one input, each to be applied before the next is asked for."""
        terms = state.terms
        return RULES[command.rules_version if terms is None else terms.rules_version].decide(state, command, at_ms)

    def faulted(self, state: State, command: Command, error: str) -> Iterator[GroupEvent]:
        """Events for when `decide` raised `error`: first the order's answer, or it would wait for ever."""
        forming = state.phase is Phase.FORMING
        reason = REFUSAL_REASON_GROUP_CANCELLED if forming else REFUSAL_REASON_UNREADABLE
        for item in command.items:
            if item.kind in ("opens", "joins") and state.standing(item.order) is OrderStatus.UNKNOWN:
                yield events.seat_refused(item.message, reason)
        version = DEFAULT_RULES_VERSION if state.terms is None else state.terms.rules_version
        yield from RULES[version].fault(state, error)

    def due(self, state: State) -> int | None:
        """When a tick would change something next, in milliseconds since the epoch; None: never."""
        terms = state.terms
        return None if terms is None else RULES[terms.rules_version].due(state)

    def tick(self, due_ms: int) -> bytes:
        """An input that says: look at the time."""
        return GroupInput(tick=Tick(due_ms=due_ms)).SerializeToString()

    def encode_decision(
        self, key: str, version: int, cause: int, time_ms: int, previous_sha256: bytes, events: list[GroupEvent]
    ) -> bytes:
        """A GroupDecision."""
        # Field by field: a constructor given all of them takes half as long again.
        decision = GroupDecision()
        decision.group = key
        decision.version = version
        decision.cause = cause
        decision.time_ms = time_ms
        decision.previous_sha256 = previous_sha256
        sealed = decision.SerializeToString()
        # The events stand last, so their bytes are appended: a message that takes them in encodes each one twice.
        for event in events:
            encoded = event.SerializeToString()
            if len(encoded) < len(_EVENT_HEADS):
                sealed += _EVENT_HEADS[len(encoded)] + encoded
            else:
                sealed += GroupDecision(events=[event]).SerializeToString()
        return sealed

    def decode_decision(self, value: bytes) -> Any:
        """A GroupDecision. Raises DecodeError, UnknownEvent and UnknownRules."""
        decision = GroupDecision.FromString(value)
        for event in decision.events:
            body = event.WhichOneof("body")
            if body is None:
                raise UnknownEvent("a GroupEvent without a body that is known here")
            if body == "opened" and event.opened.terms.rules_version not in RULES_VERSIONS:
                raise UnknownRules(f"rules_version {event.opened.terms.rules_version}")
        return decision
