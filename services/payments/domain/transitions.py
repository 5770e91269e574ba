"""The life of a payment as a table: in which state which input leads to which events. For people, and for a test that
plays every pair of state and input and compares.

The rules themselves are in group.py, answers.py, outcomes.py and pursue.py; an order's state is a view of its intent,
its holds and its calls under way. Must never be decided from.
"""

from __future__ import annotations

from typing import NamedTuple


class State(NamedTuple):
    """One state of an order's payment."""

    meaning: str
    #: What each input leads to: names of events, in order. What is not named falls to the defaults below.
    leads_to: dict[str, str]
    #: Whether a call is under way, and does not wait to be asked again.
    under_way: bool = False
    #: Whether the payment method takes money at once.
    sale: bool = False


#: What the group, the shop and the clock say.
COMMANDS = ("SeatReserved", "SettlementRequested", "ReleaseRequested", "RefundCommand", "Tick")
#: What is said about the call that was made last: its answer if it is under way, late or repeated news otherwise.
ANSWERS = (
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
#: Money of another hold than any that was asked for.
SECOND_HOLD = "SecondHold"
INPUTS = (*COMMANDS, *ANSWERS, SECOND_HOLD)

#: In every state: money that nobody asked for goes back.
SENT_BACK = "SuspenseRecorded VoidRequested"
SENT_BACK_SALE = "SuspenseRecorded RefundRequested"
#: In every state that does not say otherwise.
NO_REFUND = "RefundDeclined"
#: An answer that does not fit the call under way.
ASKED_LATER = "CallDeferred"

_ASKED = {
    "SettlementRequested": "Faulted",
    "ReleaseRequested": "VoidRequested",
    "Authorised": "HoldAuthorised",
    "Declined": "HoldDeclined",
    "Captured": "HoldDeclined SuspenseRecorded RefundRequested",
    "Voided": "HoldDeclined",
    "HoldGone": "HoldDeclined",
    "Absent": "CallRetried",
}
_RETURNED = {
    "Declined": "RefundDeclined PaymentReleased",
    "Refunded": "Refunded PaymentReleased",
    "Absent": "CallRetried",
    "HoldGone": "RefundDeclined PaymentReleased",
}

STATES: dict[str, State] = {
    "UNKNOWN": State(
        "nothing has happened",
        {
            "SeatReserved": "HoldRequested",
            "SettlementRequested": "Faulted",
            "ReleaseRequested": "PaymentReleased",
            "Authorised": SENT_BACK,
            "Captured": SENT_BACK_SALE,
        },
    ),
    "REQUESTED": State(
        "an authorisation is under way", _ASKED | {"ActionRequired": "ActionRequired CallDeferred"}, under_way=True
    ),
    "WAITING": State(
        "the authorisation was put off", _ASKED | {"ActionRequired": "ActionRequired", "Tick": "CallRetried"}
    ),
    "CONFIRMING": State("the shopper must confirm; a look is due now and then", _ASKED | {"Tick": "CallRetried"}),
    "HELD": State(
        "money is held",
        {
            "SettlementRequested": "CaptureRequested",
            "ReleaseRequested": "VoidRequested",
            "Captured": "HoldLapsed SuspenseRecorded RefundRequested",
            "Voided": "Voided",
            "HoldGone": "HoldLapsed",
        },
    ),
    "LAPSED": State(
        "the hold ended by itself before its capture was asked for",
        {
            "SettlementRequested": "HoldRequested",
            "ReleaseRequested": "VoidRequested PaymentReleased",
            "Captured": SENT_BACK_SALE,
        },
    ),
    "CAPTURING": State(
        "a capture is under way",
        {
            "ReleaseRequested": "VoidRequested",
            "Declined": "CaptureDeclined VoidRequested",
            "Captured": "Captured",
            "Voided": "Voided HoldRequested",
            "Absent": "CallRetried",
            "HoldGone": "HoldLapsed HoldRequested",
        },
        under_way=True,
    ),
    "RENEWING": State(
        "the hold had lapsed at its capture; a new one is asked for, at the capture's amount",
        {
            "ReleaseRequested": "VoidRequested",
            "Authorised": "HoldAuthorised CaptureRequested",
            "ActionRequired": "ActionRequired CallDeferred",
            "Declined": "CaptureDeclined",
            "Captured": "CaptureDeclined SuspenseRecorded RefundRequested",
            "Voided": "CaptureDeclined",
            "Absent": "CallRetried",
            "HoldGone": "CaptureDeclined",
        },
        under_way=True,
    ),
    "CAPTURED": State(
        "the order is charged",
        {"ReleaseRequested": "VoidRequested RefundRequested", "RefundCommand": "RefundRequested"},
    ),
    "REFUNDING": State(
        "a commanded refund of all of it is under way",
        {
            "ReleaseRequested": "VoidRequested",
            "Declined": "RefundDeclined",
            "Refunded": "Refunded",
            "Absent": "CallRetried",
            "HoldGone": "RefundDeclined",
        },
        under_way=True,
    ),
    "FAILING": State(
        "the capture was refused; the hold is being let go",
        {
            "ReleaseRequested": "VoidRequested",
            "Declined": "CallRetried CallDeferred",
            "Captured": "HoldLapsed SuspenseRecorded RefundRequested",
            "Voided": "Voided",
            "Absent": "CallRetried",
            "HoldGone": "HoldLapsed",
        },
        under_way=True,
    ),
    "DECLINED": State(
        "the authorisation was refused",
        {
            "SettlementRequested": "Faulted",
            "ReleaseRequested": "PaymentReleased",
            "Authorised": SENT_BACK,
            "Captured": SENT_BACK_SALE,
        },
    ),
    "RELEASING": State(
        "released while the authorisation is under way",
        {
            "Authorised": "HoldAuthorised VoidRequested",
            "ActionRequired": "ActionRequired CallDeferred VoidRequested",
            "Declined": "HoldDeclined PaymentReleased",
            "Captured": "HoldDeclined SuspenseRecorded RefundRequested",
            "Voided": "HoldDeclined PaymentReleased",
            "Absent": "PaymentReleased",
            "HoldGone": "HoldDeclined PaymentReleased",
        },
        under_way=True,
    ),
    "VOIDING": State(
        "released; the hold is being let go",
        {
            "Declined": "CallRetried CallDeferred",
            "Captured": "Captured RefundRequested",
            "Voided": "Voided PaymentReleased",
            "Absent": "CallRetried",
            "HoldGone": "HoldLapsed PaymentReleased",
        },
        under_way=True,
    ),
    "RETURNING": State("released after its capture; the money is on its way back", _RETURNED, under_way=True),
    "RELEASED": State("nothing is held any more", {"Captured": SENT_BACK_SALE}),
    "SALE_REQUESTED": State(
        "a sale is under way",
        _ASKED | {"ActionRequired": "ActionRequired CallDeferred", "Captured": "HoldAuthorised"},
        under_way=True,
        sale=True,
    ),
    "SALE_CONFIRMING": State(
        "the shopper must pay at the provider's",
        _ASKED | {"Captured": "HoldAuthorised", "Tick": "CallRetried"},
        sale=True,
    ),
    "TAKEN": State(
        "a sale took the money",
        {"SettlementRequested": "RefundRequested", "ReleaseRequested": "RefundRequested"},
        sale=True,
    ),
    "SETTLING": State(
        "the difference to the price is being given back",
        {
            "ReleaseRequested": "VoidRequested",
            "Declined": "RefundDeclined Captured",
            "Refunded": "Refunded Captured",
            "Absent": "CallRetried",
            "HoldGone": "RefundDeclined Captured",
        },
        under_way=True,
        sale=True,
    ),
    "SALE_RETURNING": State("released; all of the sale is being given back", _RETURNED, under_way=True, sale=True),
}


def events_after(state: str, told: str) -> tuple[str, ...]:
    """Names of the events that an input leads to in a state."""
    row = STATES[state]
    listed = row.leads_to.get(told)
    if listed is not None:
        return tuple(listed.split())
    if told == SECOND_HOLD:
        return tuple((SENT_BACK_SALE if row.sale else SENT_BACK).split())
    if told == "RefundCommand":
        return (NO_REFUND,)
    return (ASKED_LATER,) if told in ANSWERS and row.under_way else ()


def table() -> str:
    """The whole table as Markdown. Inputs that change nothing are left out."""
    lines = ["| state | input | events |", "|-|-|-|"]
    for name, state in STATES.items():
        lines.append(f"| **{name}** | | {state.meaning} |")
        lines += [f"| | {told} | {', '.join(found)} |" for told in INPUTS if (found := events_after(name, told))]
    return "\n".join(lines) + "\n"
