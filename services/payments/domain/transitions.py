"""The life of a payment as a table: the events that each input leads to in each status, under the current rules.
Documentation, not rules.

Unlike the groups' table, no decider looks this one up: `decide` works on the intent, the holds and the pending calls of
a payment. tests/unit/payments/test_table.py plays every status with every input and compares the events with the table.
"""

from __future__ import annotations

from typing import NamedTuple

from services.payments.domain.state.status import Status


class State(NamedTuple):
    """The rows of one status."""

    meaning: str
    #: Input -> names of the events that follow, in order. Other inputs fall to the defaults below.
    leads_to: dict[str, str]
    #: Whether the rows hold while a call is in flight. Once it is deferred, Tick retries it.
    in_flight: bool = False
    #: Whether the payment method takes money at once.
    sale: bool = False


#: Inputs of the group, the shop and the clock.
COMMANDS = ("SeatReserved", "SettlementRequested", "ReleaseRequested", "RefundCommand", "Tick")
#: Results of the last call: its own result while it is in flight, a late or duplicate report otherwise.
RESULTS = (
    "Authorised",
    "ActionRequired",
    "Declined",
    "Captured",
    "Voided",
    "Refunded",
    "Absent",
    "HoldGone",
    "RetryLater",
)
#: Authorised, but of a hold that was never requested.
SECOND_HOLD = "SecondHold"
INPUTS = (*COMMANDS, *RESULTS, SECOND_HOLD)

#: In every status: unexpected funds wait in suspense; after an hour, a tick requests their return.
IN_SUSPENSE = "SuspenseRecorded"
#: In every status that does not say otherwise.
NO_REFUND = "RefundDeclined"
#: A result that does not fit the call in flight.
RETRY_LATER = "CallDeferred"

#: A settlement that does not fit the hold: an alarm, and the member counts as declined.
_MISMATCH = "SuspenseRecorded CaptureDeclined"
#: While a hold is requested, the order is released instead: money that is held already is voided.
_MISMATCH_RELEASED = "SuspenseRecorded VoidRequested"

_REQUESTED = {
    "SettlementRequested": _MISMATCH_RELEASED,
    "ReleaseRequested": "VoidRequested",
    "Authorised": "HoldAuthorised",
    "Declined": "HoldDeclined",
    "Captured": "HoldDeclined SuspenseRecorded",
    "Voided": "HoldDeclined",
    "HoldGone": "HoldDeclined",
    "Absent": "CallRetried",
}
#: A call that failed before waits before its next attempt, too.
_DEFERRED = _REQUESTED | {"Absent": "CallRetried CallDeferred"}
#: The shopper may confirm, so the hold is voided, too.
_CONFIRMING = _DEFERRED | {"SettlementRequested": f"{_MISMATCH_RELEASED} VoidRequested"}
_RETURNED = {
    "Declined": "RefundDeclined MoneyOwed",
    "Refunded": "Refunded PaymentReleased",
    "Absent": "CallRetried",
    "HoldGone": "RefundDeclined MoneyOwed",
}

STATES: dict[Status, State] = {
    Status.UNKNOWN: State(
        "nothing is requested",
        {
            "SeatReserved": "HoldRequested",
            "SettlementRequested": _MISMATCH,
            "ReleaseRequested": "PaymentReleased",
            "Authorised": IN_SUSPENSE,
            "Captured": IN_SUSPENSE,
        },
    ),
    Status.REQUESTED: State(
        "the authorisation is in flight", _REQUESTED | {"ActionRequired": "ActionRequired CallDeferred"}, in_flight=True
    ),
    Status.DEFERRED: State(
        "the authorisation is deferred", _DEFERRED | {"ActionRequired": "ActionRequired", "Tick": "CallRetried"}
    ),
    Status.ACTION_REQUIRED: State(
        "the shopper must confirm; the provider is polled", _CONFIRMING | {"Tick": "CallRetried"}
    ),
    Status.AUTHORISED: State(
        "money is held",
        {
            "SettlementRequested": "CaptureRequested",
            "ReleaseRequested": "VoidRequested",
            "Captured": "HoldLapsed SuspenseRecorded HoldLost",
            "Voided": "Voided HoldLost",
            "HoldGone": "HoldLapsed HoldLost",
        },
    ),
    Status.LAPSED: State(
        "the hold ended before its capture was requested",
        {
            "SettlementRequested": "HoldRequested",
            "ReleaseRequested": "VoidRequested PaymentReleased",
            "Captured": IN_SUSPENSE,
        },
    ),
    Status.CAPTURING: State(
        "the capture is in flight",
        {
            "ReleaseRequested": "VoidRequested",
            "Declined": "CaptureDeclined VoidRequested",
            "Captured": "Captured",
            "Voided": "Voided HoldRequested",
            "Absent": "CallRetried",
            "HoldGone": "HoldLapsed HoldRequested",
        },
        in_flight=True,
    ),
    Status.RENEWING: State(
        "the hold had lapsed at its capture; a new one, of the capture's amount, is in flight",
        {
            "ReleaseRequested": "VoidRequested",
            "Authorised": "HoldAuthorised CaptureRequested",
            "ActionRequired": "ActionRequired CallDeferred",
            "Declined": "CaptureDeclined",
            "Captured": "CaptureDeclined SuspenseRecorded",
            "Voided": "CaptureDeclined",
            "Absent": "CallRetried",
            "HoldGone": "CaptureDeclined",
        },
        in_flight=True,
    ),
    Status.CAPTURED: State(
        "the order is charged",
        {"ReleaseRequested": "VoidRequested RefundRequested", "RefundCommand": "RefundRequested"},
    ),
    Status.REFUNDING: State(
        "a commanded refund, here of the whole charge, is in flight",
        {
            "ReleaseRequested": "VoidRequested",
            "Declined": "RefundDeclined",
            "Refunded": "Refunded",
            "Absent": "CallRetried",
            "HoldGone": "RefundDeclined",
        },
        in_flight=True,
    ),
    Status.CAPTURE_DECLINED: State(
        "the capture was declined; the void of the hold is in flight, or done",
        {
            "ReleaseRequested": "VoidRequested",
            "Declined": "CallRetried CallDeferred",
            "Captured": "HoldLapsed SuspenseRecorded",
            "Voided": "Voided",
            "Absent": "CallRetried",
            "HoldGone": "HoldLapsed",
        },
        in_flight=True,
    ),
    Status.HOLD_DECLINED: State(
        "the authorisation was declined",
        {
            "SettlementRequested": _MISMATCH,
            "ReleaseRequested": "PaymentReleased",
            "Authorised": IN_SUSPENSE,
            "Captured": IN_SUSPENSE,
        },
    ),
    Status.RELEASING: State(
        "released while the authorisation is in flight",
        {
            "Authorised": "HoldAuthorised VoidRequested",
            "ActionRequired": "ActionRequired CallDeferred VoidRequested",
            "Declined": "HoldDeclined PaymentReleased",
            "Captured": "HoldDeclined SuspenseRecorded",
            "Voided": "HoldDeclined PaymentReleased",
            "Absent": "PaymentReleased",
            "HoldGone": "HoldDeclined PaymentReleased",
        },
        in_flight=True,
    ),
    Status.VOIDING: State(
        "released; the void of the hold is in flight",
        {
            "Declined": "CallRetried CallDeferred",
            "Captured": "Captured RefundRequested",
            "Voided": "Voided PaymentReleased",
            "Absent": "CallRetried",
            "HoldGone": "HoldLapsed PaymentReleased",
        },
        in_flight=True,
    ),
    Status.RETURNING: State("released after its capture; the refund is in flight", _RETURNED, in_flight=True),
    Status.RELEASED: State("the release is complete", {"Captured": IN_SUSPENSE}),
    Status.SALE_REQUESTED: State(
        "the sale is in flight",
        _REQUESTED | {"ActionRequired": "ActionRequired CallDeferred", "Captured": "HoldAuthorised"},
        in_flight=True,
        sale=True,
    ),
    Status.SALE_ACTION_REQUIRED: State(
        "the shopper must pay at the provider's; the provider is polled",
        _CONFIRMING | {"Captured": "HoldAuthorised", "Tick": "CallRetried"},
        sale=True,
    ),
    Status.SALE_TAKEN: State(
        "a sale took the money",
        {"SettlementRequested": "RefundRequested", "ReleaseRequested": "RefundRequested"},
        sale=True,
    ),
    Status.SALE_SETTLING: State(
        "settled below the amount taken; the refund of the difference is in flight",
        {
            "ReleaseRequested": "VoidRequested",
            "Declined": "RefundDeclined MoneyOwed",
            "Refunded": "Refunded Captured",
            "Absent": "CallRetried",
            "HoldGone": "RefundDeclined MoneyOwed",
        },
        in_flight=True,
        sale=True,
    ),
    Status.SALE_RETURNING: State(
        "released; the refund of the whole sale is in flight", _RETURNED, in_flight=True, sale=True
    ),
    Status.OWED: State(
        "money is owed: its refund was refused; the next attempt or an operator follows",
        {"Refunded": "Refunded MoneyOwed PaymentReleased", "Tick": "RefundRequested"},
        sale=True,
    ),
}


def events_after(status: Status, given: str) -> tuple[str, ...]:
    """Names of the events that an input leads to in a status."""
    row = STATES[status]
    listed = row.leads_to.get(given)
    if listed is not None:
        return tuple(listed.split())
    if given == SECOND_HOLD:
        return tuple(IN_SUSPENSE.split())
    if given == "RefundCommand":
        return (NO_REFUND,)
    return (RETRY_LATER,) if given in RESULTS and row.in_flight else ()


def table() -> str:
    """The whole table as Markdown. Inputs that change nothing are left out."""
    lines = ["| status | input | events |", "|-|-|-|"]
    for name, state in STATES.items():
        lines.append(f"| **{name}** | | {state.meaning} |")
        lines += [f"| | {given} | {', '.join(found)} |" for given in INPUTS if (found := events_after(name, given))]
    return "\n".join(lines) + "\n"
