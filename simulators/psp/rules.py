"""What each call does to a hold, and how it is answered: the provider's rules, without storage, network or clock.

Money of a hold is authorised once and then taken, let go, or still open: authorised = captured + released + open, after
every call. These functions change the Hold they are given and must never refuse (raise) after having changed it.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

SEVEN_DAYS_MS = 7 * 24 * 3_600_000


class Refusal(Exception):
    """Base of what is answered with an error status. Such a call leaves no trace, not even under its key."""


class KeyReused(Refusal):
    """The key names another call already. Send another payload under a key of its own."""


class NotFound(Refusal):
    """No such hold or call here. Check the reference."""


class NotConfirmable(Refusal):
    """There is nothing to confirm, or no more. Ask for a new authorisation."""


class State(enum.IntEnum):
    """Where a hold stands. All but PENDING and OPEN are ends."""

    PENDING = 1  # The owner has not confirmed: no money is held.
    OPEN = 2
    CAPTURED = 3
    VOIDED = 4
    LAPSED = 5


class Answer(NamedTuple):
    """What a call is told when the hold's state forbids it."""

    status: pb.Status.ValueType
    reason: str = ""


_GONE = Answer(pb.STATUS_HOLD_GONE)
_NOT_CAPTURED = Answer(pb.STATUS_DECLINED, "not captured")

CAPTURE_ANSWERS: Mapping[State, Answer] = {
    State.PENDING: Answer(pb.STATUS_DECLINED, "not confirmed"),
    State.CAPTURED: Answer(pb.STATUS_DECLINED, "already captured"),
    State.VOIDED: Answer(pb.STATUS_DECLINED, "voided"),
    State.LAPSED: _GONE,
}
VOID_ANSWERS: Mapping[State, Answer] = {
    State.CAPTURED: Answer(pb.STATUS_DECLINED, "captured"),
    # Let go already, by another call: what was wished for is so.
    State.VOIDED: Answer(pb.STATUS_VOIDED),
    State.LAPSED: _GONE,
}
REFUND_ANSWERS: Mapping[State, Answer] = {
    State.PENDING: _NOT_CAPTURED,
    State.OPEN: _NOT_CAPTURED,
    State.VOIDED: _NOT_CAPTURED,
    State.LAPSED: _NOT_CAPTURED,
}


class Declines(NamedTuple):
    """What is declined beside the methods whose suffix says so. Amounts are in minor units; `above` 0: none."""

    methods: frozenset[str] = frozenset()
    amounts_minor: frozenset[int] = frozenset()
    above_minor: int = 0

    def refuse(self, method: str, amount_minor: int) -> bool:
        """Whether an authorisation is declined. A method's name is what stands behind the last `/`."""
        return (
            method.rpartition("/")[2] in self.methods
            or amount_minor in self.amounts_minor
            or 0 < self.above_minor < amount_minor
        )


NO_DECLINES = Declines()


@dataclass(slots=True)
class Hold:
    """One hold and what became of its money. Amounts are in minor units."""

    hold: str
    key: str
    order: str
    group: str
    currency: str
    payment_method: str
    sale: bool
    state: State
    asked_minor: int
    authorised_minor: int = 0
    captured_minor: int = 0
    released_minor: int = 0
    refunded_minor: int = 0
    captures: int = 0
    #: When it ends by itself, in milliseconds since the epoch; 0: never.
    until_ms: int = 0

    @property
    def open_minor(self) -> int:
        """Money still held."""
        return self.authorised_minor - self.captured_minor - self.released_minor

    def lapse(self, at_ms: int) -> bool:
        """Ends the hold if its time is over. True if that changed it."""
        if self.state not in {State.PENDING, State.OPEN} or not 0 < self.until_ms <= at_ms:
            return False
        self._let_go(State.LAPSED)
        return True

    def _let_go(self, state: State) -> None:
        self.released_minor += self.open_minor
        self.state = state

    def result(self, key: str, answer: Answer, amount_minor: int = 0) -> pb.CallResult:
        """The answer to a call about this hold."""
        return pb.CallResult(
            key=key,
            status=answer.status,
            hold=self.hold,
            amount_minor=amount_minor,
            currency=self.currency,
            reason=answer.reason,
        )

    def _take_up(self, at_ms: int, life_ms: int) -> pb.CallResult:
        """The owner agrees: money is held, or taken by a sale."""
        self.authorised_minor = self.asked_minor
        if self.sale:
            self.state, self.until_ms = State.CAPTURED, 0
            self.captured_minor, self.captures = self.asked_minor, 1
        else:
            self.state, self.until_ms = State.OPEN, at_ms + life_ms
        made = self.result(self.key, Answer(pb.STATUS_AUTHORISED), self.asked_minor)
        made.capturable_until_ms = self.until_ms
        return made


def hold_id(key: str) -> str:
    """The reference of the hold that an authorisation makes: derived from its key, so a repeat names the same."""
    return "hold_" + hashlib.sha256(key.encode()).hexdigest()[:24]


def authorise(
    request: pb.AuthoriseRequest, at_ms: int, life_ms: int, declines: Declines = NO_DECLINES
) -> tuple[Hold | None, pb.CallResult]:
    """Holds money, or takes it at once. Without a hold when declined. The method's suffix says how it goes."""
    method = request.payment_method
    refused = method.endswith("_declined") or (request.sale and method.endswith("_decline_capture"))
    if refused or declines.refuse(method, request.amount_minor):
        declined = pb.CallResult(
            key=request.key, status=pb.STATUS_DECLINED, currency=request.currency, reason="card declined"
        )
        return None, declined
    hold = Hold(
        hold=hold_id(request.key),
        key=request.key,
        order=request.order,
        group=request.group,
        currency=request.currency,
        payment_method=method,
        sale=request.sale,
        state=State.PENDING,
        asked_minor=request.amount_minor,
        until_ms=at_ms + life_ms,
    )
    if not method.endswith("_action"):
        return hold, hold._take_up(at_ms, life_ms)
    asks = hold.result(request.key, Answer(pb.STATUS_ACTION_REQUIRED))
    asks.action_url = f"https://simprovider.invalid/confirm/{hold.hold}"
    return hold, asks


def confirm(hold: Hold, at_ms: int, life_ms: int) -> pb.CallResult:
    """The owner confirms: the authorisation's new result. Raises NotConfirmable unless it waits for that."""
    hold.lapse(at_ms)
    if hold.state is not State.PENDING:
        raise NotConfirmable(f"the hold is {hold.state.name.lower()}")
    return hold._take_up(at_ms, life_ms)


def capture(hold: Hold, request: pb.CaptureRequest, at_ms: int) -> pb.CallResult:
    """Takes held money, at most once a hold. The rest is let go."""
    hold.lapse(at_ms)
    refused = CAPTURE_ANSWERS.get(hold.state)
    if refused is None and hold.payment_method.endswith("_decline_capture"):
        refused = Answer(pb.STATUS_DECLINED, "card declined")
    if refused is None and request.amount_minor > hold.open_minor:
        refused = Answer(pb.STATUS_DECLINED, "above what is held")
    if refused is not None:
        return hold.result(request.key, refused)
    hold.captured_minor, hold.captures = request.amount_minor, 1
    hold._let_go(State.CAPTURED)
    return hold.result(request.key, Answer(pb.STATUS_CAPTURED), request.amount_minor)


def void(hold: Hold, request: pb.VoidRequest, at_ms: int) -> pb.CallResult:
    """Lets a hold go, also one that waits for its owner."""
    hold.lapse(at_ms)
    if refused := VOID_ANSWERS.get(hold.state):
        return hold.result(request.key, refused)
    let_go_minor = hold.open_minor
    hold._let_go(State.VOIDED)
    return hold.result(request.key, Answer(pb.STATUS_VOIDED), let_go_minor)


def refund(hold: Hold, request: pb.RefundRequest, at_ms: int) -> pb.CallResult:
    """Gives taken money back, never more than was taken."""
    hold.lapse(at_ms)
    refused = REFUND_ANSWERS.get(hold.state)
    if refused is None and request.amount_minor > hold.captured_minor - hold.refunded_minor:
        refused = Answer(pb.STATUS_DECLINED, "above what was captured")
    if refused is not None:
        return hold.result(request.key, refused)
    hold.refunded_minor += request.amount_minor
    return hold.result(request.key, Answer(pb.STATUS_REFUNDED), request.amount_minor)
