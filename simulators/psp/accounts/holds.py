"""Holds and the provider's rules: the effect and the answer of each call, without storage, network or clock.

After each call, authorised = captured + released + open. The functions change the Hold that they are given, and raise
only before they have changed it.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

SEVEN_DAYS_MS = 7 * 24 * 3_600_000


class Refusal(Exception):
    """Base of errors that answer a call. Such a call is not recorded, not even under its key."""


class KeyReused(Refusal):
    """The key was used for another call. Send another payload under a key of its own."""


class NotFound(Refusal):
    """No such hold or call. Check the reference."""


class NotConfirmable(Refusal):
    """The call does not wait for a confirmation, or no longer. Make a new authorisation."""


class NotPossible(Refusal):
    """The hold's state does not allow the operation, or its provider does not offer it."""


class MethodRefused(Refusal):
    """The payment method can't be used again, or is another customer's."""


class HoldState(enum.IntEnum):
    """State of a hold. All but PENDING and OPEN are final."""

    PENDING = 1  # The shopper has not confirmed: no money is held.
    OPEN = 2
    CAPTURED = 3
    VOIDED = 4
    EXPIRED = 5


class Answer(NamedTuple):
    """Status and reason of an answer."""

    status: pb.Status.ValueType
    reason: str = ""


_GONE = Answer(pb.STATUS_HOLD_GONE)
_NOT_CAPTURED = Answer(pb.STATUS_DECLINED, "not captured")

CAPTURE_ANSWERS: Mapping[HoldState, Answer] = {
    HoldState.PENDING: Answer(pb.STATUS_DECLINED, "not confirmed"),
    HoldState.CAPTURED: Answer(pb.STATUS_DECLINED, "already captured"),
    HoldState.VOIDED: Answer(pb.STATUS_DECLINED, "voided"),
    HoldState.EXPIRED: _GONE,
}
VOID_ANSWERS: Mapping[HoldState, Answer] = {
    HoldState.CAPTURED: Answer(pb.STATUS_DECLINED, "captured"),
    # Released already by another call.
    HoldState.VOIDED: Answer(pb.STATUS_VOIDED),
    HoldState.EXPIRED: _GONE,
}
REFUND_ANSWERS: Mapping[HoldState, Answer] = {
    HoldState.PENDING: _NOT_CAPTURED,
    HoldState.OPEN: _NOT_CAPTURED,
    HoldState.VOIDED: _NOT_CAPTURED,
    HoldState.EXPIRED: _NOT_CAPTURED,
}


class Declines(NamedTuple):
    """Configured declines, beside methods with a declining suffix. Amounts in minor units; `above_minor` 0: none."""

    methods: frozenset[str] = frozenset()
    amounts_minor: frozenset[int] = frozenset()
    above_minor: int = 0

    def refuses(self, method: str, amount_minor: int) -> bool:
        """Whether an authorisation is declined. The name of a method follows its last `/`."""
        return (
            method.rpartition("/")[2] in self.methods
            or amount_minor in self.amounts_minor
            or 0 < self.above_minor < amount_minor
        )


NO_DECLINES = Declines()


@dataclass(slots=True)
class Hold:
    """One hold and its money. Amounts in minor units."""

    hold: str
    key: str
    order: str
    group: str
    currency: str
    payment_method: str
    sale: bool
    state: HoldState
    asked_minor: int
    authorised_minor: int = 0
    captured_minor: int = 0
    released_minor: int = 0
    refunded_minor: int = 0
    captures: int = 0
    #: Expiry in milliseconds since the epoch; 0: none.
    until_ms: int = 0

    @property
    def open_minor(self) -> int:
        """Money still held."""
        return self.authorised_minor - self.captured_minor - self.released_minor

    def expire(self, at_ms: int) -> bool:
        """Expires the hold if its time is over. Returns True if that changed it."""
        if self.state not in {HoldState.PENDING, HoldState.OPEN} or not 0 < self.until_ms <= at_ms:
            return False
        self.release(HoldState.EXPIRED)
        return True

    def release(self, state: HoldState) -> None:
        """Releases the money still held, and sets the final state."""
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

    def confirm(self, at_ms: int, life_ms: int) -> pb.CallResult:
        """Holds the money, or takes it by a sale. Returns the authorisation's result."""
        self.authorised_minor = self.asked_minor
        if self.sale:
            self.state, self.until_ms = HoldState.CAPTURED, 0
            self.captured_minor, self.captures = self.asked_minor, 1
        else:
            self.state, self.until_ms = HoldState.OPEN, at_ms + life_ms
        made = self.result(self.key, Answer(pb.STATUS_AUTHORISED), self.asked_minor)
        made.capturable_until_ms = self.until_ms
        return made


class Change(NamedTuple):
    """The effect of a call or an incident: its subject, its result, the hold afterwards (None if declined), the time.

    `metadata`: the hold's own, where it is not the standard one. `made_ms`: when the hold was made; 0 if unknown.
    """

    request: Any
    result: pb.CallResult
    hold: Hold | None
    at_ms: int
    metadata: dict[str, str] | None = None
    environment: str = ""
    made_ms: int = 0


def hold_id(key: str) -> str:
    """Reference of the hold of an authorisation: derived from its key, so a duplicate has the same."""
    return "hold_" + hashlib.sha256(key.encode()).hexdigest()[:24]


def authorise(
    request: pb.AuthoriseRequest, at_ms: int, life_ms: int, declines: Declines = NO_DECLINES
) -> tuple[Hold | None, pb.CallResult]:
    """Holds money, or takes it at once; the hold is None if declined. The method's suffix selects the result."""
    method = request.payment_method
    refused = method.endswith("_declined") or (request.sale and method.endswith("_decline_capture"))
    if refused or declines.refuses(method, request.amount_minor):
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
        state=HoldState.PENDING,
        asked_minor=request.amount_minor,
        until_ms=at_ms + life_ms,
    )
    if not method.endswith("_action"):
        return hold, hold.confirm(at_ms, life_ms)
    pending = hold.result(request.key, Answer(pb.STATUS_ACTION_REQUIRED))
    pending.action_url = f"https://simprovider.invalid/confirm/{hold.hold}"
    return hold, pending


#: Answers about the state of a hold.
STATE_ANSWERS: Mapping[HoldState, Answer] = {
    HoldState.PENDING: Answer(pb.STATUS_ACTION_REQUIRED),
    HoldState.OPEN: Answer(pb.STATUS_AUTHORISED),
    HoldState.CAPTURED: Answer(pb.STATUS_CAPTURED),
    HoldState.VOIDED: Answer(pb.STATUS_VOIDED),
    HoldState.EXPIRED: _GONE,
}


def state_of(hold: Hold, key: str, at_ms: int) -> pb.CallResult:
    """The state of a hold, with the money that it holds or that was taken."""
    hold.expire(at_ms)
    made = hold.result(key, STATE_ANSWERS[hold.state], hold.open_minor or hold.captured_minor)
    made.capturable_until_ms = hold.until_ms if hold.state is HoldState.OPEN else 0
    return made


def confirm(hold: Hold, at_ms: int, life_ms: int) -> pb.CallResult:
    """Confirms a pending hold. Returns the authorisation's new result. Raises NotConfirmable."""
    hold.expire(at_ms)
    if hold.state is not HoldState.PENDING:
        raise NotConfirmable(f"the hold is {hold.state.name.lower()}")
    return hold.confirm(at_ms, life_ms)


def capture(hold: Hold, request: pb.CaptureRequest, at_ms: int) -> pb.CallResult:
    """Takes held money, at most once for each hold, and releases the rest."""
    hold.expire(at_ms)
    refused = CAPTURE_ANSWERS.get(hold.state)
    if refused is None and hold.payment_method.endswith("_decline_capture"):
        refused = Answer(pb.STATUS_DECLINED, "card declined")
    if refused is None and request.amount_minor > hold.open_minor:
        refused = Answer(pb.STATUS_DECLINED, "above what is held")
    if refused is not None:
        return hold.result(request.key, refused)
    hold.captured_minor, hold.captures = request.amount_minor, 1
    hold.release(HoldState.CAPTURED)
    return hold.result(request.key, Answer(pb.STATUS_CAPTURED), request.amount_minor)


def void(hold: Hold, request: pb.VoidRequest, at_ms: int) -> pb.CallResult:
    """Releases a hold, also a pending one."""
    hold.expire(at_ms)
    if refused := VOID_ANSWERS.get(hold.state):
        return hold.result(request.key, refused)
    released_minor = hold.open_minor
    hold.release(HoldState.VOIDED)
    return hold.result(request.key, Answer(pb.STATUS_VOIDED), released_minor)


def refund(hold: Hold, request: pb.RefundRequest, at_ms: int, obstacle: str = "") -> pb.CallResult:
    """Returns captured money, at most what was captured. `obstacle`: the reason for which it is declined."""
    hold.expire(at_ms)
    refused = REFUND_ANSWERS.get(hold.state)
    if refused is None and obstacle:
        refused = Answer(pb.STATUS_DECLINED, obstacle)
    if refused is None and request.amount_minor > hold.captured_minor - hold.refunded_minor:
        refused = Answer(pb.STATUS_DECLINED, "above what was captured")
    if refused is not None:
        return hold.result(request.key, refused)
    hold.refunded_minor += request.amount_minor
    return hold.result(request.key, Answer(pb.STATUS_REFUNDED), request.amount_minor)


def undo_refund(hold: Hold, key: str, amount_minor: int, status: pb.Status.ValueType, reason: str) -> pb.CallResult:
    """Takes a refund back: the money is the merchant's again, and may be refunded again."""
    hold.refunded_minor -= amount_minor
    return hold.result(key, Answer(status, reason), amount_minor)
