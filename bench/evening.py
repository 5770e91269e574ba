"""The inbox records of a group over an evening, as the product's own domains write them.

The real domains of groups and payments play a few stories, with simulated shoppers and a simulated provider: orders,
all kinds of payment decisions that are copied, declines, cancellations, late joiners, ticks and duplicates. A benchmark
replays each story under other ids as often as it needs. Deterministic by seed. The mix is no easier for a decider than
the product's.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.groups.v1.inbox_pb2 import CancelGroupCommand, GroupInput
from groupbuy.log.v1.log_pb2 import Source
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.payments.v1 import decisions_pb2 as pay
from groupbuy.payments.v1 import inbox_pb2 as pay_inbox

from eventlog.core.aggregate import Aggregate, decide
from services.groups.domain.command import reacts_to
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import Phase
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.output.provider_calls import calls_of, idempotency_key

_NAMESPACE = UUID("0f6f6c0e-58a7-4dfc-8a53-1d1f2a4b6c77")
SEATS = 10
PRICE = 8_900
_SOLO_PRICE = 9_900
STORIES = 64
_START_MS = 1_790_000_000_000
#: No hold expires, whenever the benchmark runs.
_CAPTURABLE_UNTIL_MS = 4_102_444_800_000
#: Probabilities of a decline, a shopper who leaves, a duplicate record and a tick that is too early.
_DECLINE, _LEAVE, _REPEAT, _TICK = 0.04, 0.03, 0.02, 0.01
#: Probability that the merchant cancels the group before it completes.
_CANCEL = 0.05
_MAX_ORDERS = 24
#: A placeholder in a story: its kind and the number of the order. It has the length of the id that replaces it.
_NAME = re.compile(rb"\{[gocht]\d{2}[-]*\}")


def campaign() -> Campaign:
    """A campaign of three tiers and ten seats."""
    tiers = [Tier(members=2, unit_price_minor=8_900), Tier(members=5, unit_price_minor=7_900)]
    tiers.append(Tier(members=10, unit_price_minor=6_900))
    return Campaign(
        name="campaigns/bench",
        product="mug",
        currency="CNY",
        solo_price_minor=_SOLO_PRICE,
        tiers=tiers,
        capacity=SEATS,
        window=Duration(seconds=86_400),
        hold_window=Duration(seconds=3_600),
        rules_version=1,
        revision=1,
    )


def outcome_of(call: pay.ProviderCall) -> pay_inbox.ProviderOutcome:
    """The outcome of a call, with its result still unset."""
    return pay_inbox.ProviderOutcome(
        order=call.order,
        operation=call.operation,
        attempt=call.attempt,
        origin=pay_inbox.OUTCOME_ORIGIN_CALL,
        payment_method=call.payment_method,
    )


def set_success(outcome: pay_inbox.ProviderOutcome, call: pay.ProviderCall, hold: str) -> None:
    """Sets the result of a successful authorisation, with this hold, or capture. Raises ValueError for other calls."""
    if call.operation == pay.OPERATION_AUTHORISE:
        held = outcome.authorised
        held.hold, held.amount_minor, held.currency = hold, call.amount_minor, call.currency
        held.capturable_until_ms = _CAPTURABLE_UNTIL_MS
    elif call.operation == pay.OPERATION_CAPTURE:
        captured = outcome.captured
        captured.hold, captured.amount_minor, captured.currency = call.hold, call.amount_minor, call.currency
    else:
        raise ValueError(f"{idempotency_key(call)}: unexpected call")


def _name(kind: str, number: int, length: int) -> str:
    return "{" + f"{kind}{number:02}".ljust(length - 2, "-") + "}"


class _Story:
    """One group, its payments, its shoppers and its provider."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._group = Aggregate(_name("g", 0, 36), GroupDomain().initial(""))
        self._payments = Aggregate(_name("g", 0, 36), GroupPaymentsDomain().initial(_name("g", 0, 36)))
        self._now_ms = _START_MS
        self._placed = 0
        self._calls: list[Any] = []
        self._payments_offset = 0
        self.values: list[bytes] = []

    def play(self) -> Sequence[bytes]:
        """Plays the story; returns the values of the group's inbox."""
        chance = self._chance
        cancels_at = chance.randrange(2, SEATS) if chance.random() < _CANCEL else -1
        late = chance.randrange(3)
        while True:
            state = self._group.state
            seats = state.seats_left if self._placed else 1
            wants = self._placed < _MAX_ORDERS and (seats > 0 or (state.phase is not Phase.FORMING and late > 0))
            if not wants and not self._calls:
                return self.values
            if self._calls and (not wants or chance.random() < 0.5):
                self._respond(self._calls.pop(chance.randrange(len(self._calls))))
            else:
                late -= state.phase is not Phase.FORMING and self._placed > 0
                self._place()
            if len(state.confirmed) == cancels_at and state.phase is Phase.FORMING:
                cancels_at = -1
                self._group_input(GroupInput(cancel_group=CancelGroupCommand(request_id="stop", reason="sold out")))

    def play_solo(self) -> Sequence[bytes]:
        """Values of the inbox of a solo order's group: the shortest way from the opening to the settlement.

        Raises ValueError if the group does not end, for example when the hold is declined.
        """
        self._place(solo=True)
        while self._calls:
            self._respond(self._calls.pop())
        if self._group.state.settled != 1 or GroupDomain().due(self._group.state) is not None:
            raise ValueError("the group has not ended")
        return self.values

    def _place(self, *, solo: bool = False) -> None:
        number = self._placed
        self._placed += 1
        order, customer = _name("o", number, 36), _name("c", number, 16)
        placed = OrderPlaced(
            campaign="bench",
            opens_group=number == 0 and not solo,
            solo=solo,
            quantity=1,
            currency="CNY",
            max_unit_price_minor=_SOLO_PRICE if solo else PRICE,
            payment_method="card_ok",
            request_id=_name("t", number, 36),
            request_sha256=sha256(order.encode()).digest(),
        )
        fact = OrderFact(order=order, group=self._group.key, customer=customer, placed=placed)
        self._group_input(
            GroupInput(order_fact=fact.SerializeToString(), campaign=campaign() if number == 0 else None),
            "orders.order.v1",
        )
        if number and self._chance.random() < _LEAVE:
            wish = OrderCancelRequested(request_id="leave", reason="changed my mind")
            left = OrderFact(order=order, group=self._group.key, customer=customer, cancel_requested=wish)
            self._group_input(GroupInput(order_fact=left.SerializeToString()), "orders.order.v1")

    def _respond(self, call: pay.ProviderCall) -> None:
        """The provider's result of a call, as an input of the group's payments."""
        outcome = outcome_of(call)
        if call.operation == pay.OPERATION_AUTHORISE and self._chance.random() < _DECLINE:
            outcome.declined.reason = "INSUFFICIENT_FUNDS"
        elif call.operation == pay.OPERATION_VOID:
            outcome.voided.hold = call.hold
        else:
            set_success(outcome, call, _name("h", int(call.order[2:4]), 27))
        self._payment_input(pay_inbox.PaymentInput(outcome=outcome))

    def _group_input(self, record: GroupInput, topic: str = "") -> None:
        """Decides one input of the group, and passes the decision to the group's payments."""
        if topic:
            # Each record gets another offset, always three bytes long.
            record.source.CopyFrom(Source(topic=topic, partition=1, offset=100_000 + len(self.values)))
        value = record.SerializeToString()
        for _ in range(1 + (self._chance.random() < _REPEAT)):
            self.values.append(value)
        if self._chance.random() < _TICK:
            self.values.append(GroupDomain().tick(_START_MS))
        self._now_ms += 1
        decision = decide(GroupDomain(), self._group, value, len(self.values), self._now_ms)
        if decision is not None:
            self._payment_input(pay_inbox.PaymentInput(group_decision=decision))

    def _payment_input(self, record: pay_inbox.PaymentInput) -> None:
        """Decides one input of the group's payments, and passes the decision to the group."""
        self._payments_offset += 1
        value = record.SerializeToString()
        decision = decide(GroupPaymentsDomain(), self._payments, value, self._payments_offset, self._now_ms)
        if decision is not None:
            decided = pay.PaymentDecision.FromString(decision)
            self._calls += calls_of(decided)
            # As the sequencer does: it skips decisions that groups ignore, such as requested holds.
            if reacts_to(decided):
                self._group_input(GroupInput(payment_decision=decision), "payments.payment.v1")


@cache
def _stories(count: int) -> list[list[list[bytes]]]:
    """The inputs of each story, split at the placeholders: text, placeholder, text … text."""
    chance = random.Random(7)
    return [[_cut(value) for value in _Story(chance).play()] for _ in range(count)]


@cache
def _solo_story() -> list[list[bytes]]:
    chance = random.Random(3)
    while True:
        try:
            return [_cut(value) for value in _Story(chance).play_solo()]
        except ValueError:
            # The hold was declined.
            continue


def _cut(value: bytes) -> list[bytes]:
    return re.split(rb"(" + _NAME.pattern + rb")", value)


def group_inputs(index: int) -> Iterator[tuple[str, bytes]]:
    """(key, value) of all inbox records of one group."""
    return _renamed(_stories(STORIES)[index % STORIES], index)


def closed_inputs(index: int) -> Iterator[tuple[str, bytes]]:
    """(key, value) of all inbox records of a solo order's group; nothing is due after the last one."""
    return _renamed(_solo_story(), index)


def _renamed(story: list[list[bytes]], index: int) -> Iterator[tuple[str, bytes]]:
    group = str(uuid5(_NAMESPACE, str(index)))
    names: dict[bytes, bytes] = {}
    for parts in story:
        renamed = list(parts)
        for at in range(1, len(parts), 2):
            name = parts[at]
            known = names.get(name)
            if known is None:
                known = names[name] = _id_of(name, group, index)
            renamed[at] = known
        yield group, b"".join(renamed)


def _id_of(name: bytes, group: str, index: int) -> bytes:
    """The id that replaces a placeholder: of the same length, so that no length in a message changes."""
    kind, number = name[1:2], int(name[2:4])
    if kind == b"g":
        return group.encode()
    if kind in b"ot":
        return str(uuid5(UUID(group), f"{kind!r}{number}")).encode()
    return f"{kind.decode()}{index:010}{number:02}".encode().ljust(len(name), b"x")
