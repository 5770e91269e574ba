"""The money of one group's payments: refunds, returns, and funds that nobody asked for.

The part of GroupPaymentsFold about money that goes back; group_payments.py has the part about holds and captures,
provider_life.py the part about what providers and operators do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ops.audit.chain import Chain
from ops.audit.findings import Findings, Invariant
from ops.audit.money.holds import Hold, Intent, Payment, RefundRequest


class Refunds:
    """The payments of one group, and their refunds."""

    __slots__ = (
        "_at_ms", "_cause", "_commands", "_ended", "_findings", "_reached", "_reversed", "_unattended", "acted",
        "chain", "faulted", "key", "payments", "proposals", "rules_version",
    )  # fmt: skip

    def __init__(self, key: str, findings: Findings) -> None:
        self.key = key
        self.chain = Chain()
        #: By order.
        self.payments: dict[str, Payment] = {}
        self.rules_version = 1
        #: The error of the rules, if they failed.
        self.faulted = ""
        #: Proposed adjustments of the ledger: request id -> operator.
        self.proposals: dict[str, str] = {}
        #: Request ids of the operators' commands.
        self.acted: set[str] = set()
        self._findings = findings
        self._cause = -1
        self._at_ms = 0
        # Of the decision that is folded: what reached the customer or left the merchant, by order and hold; the order,
        # hold and refund of refunds that came back; and the operators' actions that were done.
        self._reached: dict[tuple[str, str], int] = {}
        self._reversed: list[tuple[str, str, str]] = []
        # Order and key of sums that are owed without a next attempt and without an alarm.
        self._unattended: list[tuple[str, str]] = []
        self._ended: list[tuple[str, str]] = []
        self._commands: set[str] = set()

    def _violation(self, invariant: Invariant, what: str, order: str = "") -> None:
        self._findings.breach(invariant, self.key, order, what)

    def _payment(self, order: str) -> Payment:
        payment = self.payments.get(order)
        if payment is None:
            payment = self.payments[order] = Payment()
        return payment

    def _hold(self, event: Any, what: str) -> Hold | None:
        """The hold of an event; None, and a violation, if it was not authorised."""
        hold = self._payment(event.order).holds.get(event.hold)
        if hold is None:
            self._violation(
                Invariant.HELD_IS_ACCOUNTED_FOR, f"{what} of hold {event.hold}, which was not authorised", event.order
            )
        return hold

    def _returned(self, order: str, reference: str, hold: Hold, amount: int, *, charge: bool) -> int:
        """An amount of a hold reached the customer. `charge`: it reduces the charge, as far as there is one.

        Returns the part of the charge.
        """
        part = max(0, min(amount, hold.charge_left)) if charge else 0
        hold.charge_refunds += part
        hold.own_refunds += amount - part
        self._reach(order, reference, amount)
        return part

    def _reach(self, order: str, reference: str, amount: int) -> None:
        key = order, reference
        self._reached[key] = self._reached.get(key, 0) + amount

    # --- refunds -----------------------------------------------------------------------------------------------------

    def _refund_requested(self, event: Any) -> None:
        call = event.call
        payment = self._payment(call.order)
        hold = payment.holds.get(call.hold)
        if hold is not None and hold.suspense and not hold.captured:
            # Unexpected funds were taken, not held, and are returned.
            hold.captured = hold.suspense
        if payment.sale and payment.intent is Intent.HOLD and call.hold == payment.hold and not call.refund:
            # A release refunds all of a sale, its settlement only a part.
            taken = hold.captured if hold is not None else 0
            payment.intent = Intent.RELEASE if call.amount_minor >= taken else Intent.CAPTURE
        self._check_refund(payment, hold, call)
        add_refund(payment, call, self._at_ms)

    def _check_refund(self, payment: Payment, hold: Hold | None, call: Any) -> None:
        amount = call.amount_minor
        debt = payment.debts.get(owed_key(call.hold, call.refund))
        if debt is not None:
            if amount > debt.amount:
                what = f"a refund of {amount} is requested again, {debt.amount} are owed"
                self._violation(Invariant.REFUNDS_WITHIN_CAPTURES, what, call.order)
        elif call.refund:
            left = payment.refundable
            if call.refund in payment.refunds:
                self._violation(
                    Invariant.REFUNDS_WITHIN_CAPTURES, f"refund {call.refund} is requested twice", call.order
                )
            if not 0 < amount <= left:
                what = f"a refund of {amount} is requested, {left} is left of the charge"
                self._violation(Invariant.REFUNDS_WITHIN_CAPTURES, what, call.order)
            payment.refunds.setdefault(call.refund, RefundRequest(amount, left))
        taken = hold.captured - hold.refunded if hold is not None else 0
        if amount > taken:
            what = f"a refund of {amount} is requested, {taken} is left of hold {call.hold}"
            self._violation(Invariant.REFUNDS_WITHIN_CAPTURES, what, call.order)

    def _refunded(self, event: Any) -> None:
        payment = self._payment(event.order)
        if not event.refund and event.hold not in payment.returns:
            # A refund that was declined has been made after all.
            payment.declined_minor = max(0, payment.declined_minor - event.amount_minor)
        _end_refund(payment, event.refund, event.hold)
        hold = self._hold(event, "refund")
        if hold is None:
            return
        if event.excess_minor:
            self._returned_twice(event)
        due = event.amount_minor - event.excess_minor
        self._returned(event.order, event.hold, hold, due, charge=bool(event.refund))
        hold.cover()
        if event.refund:
            self._returned_by_command(event, due, hold)
        hold.refunded += event.amount_minor
        if hold.refunded > hold.captured:
            self._violation(
                Invariant.REFUNDS_WITHIN_CAPTURES,
                f"refunded {hold.refunded} of {hold.captured} captured",
                event.order,
            )

    def _returned_twice(self, event: Any) -> None:
        """A part of a refund was not due. The rest of the hold, and of the command, has to agree."""
        payment = self._payment(event.order)
        if self.rules_version < 2 or not 0 < event.excess_minor <= event.amount_minor:
            what = f"{event.excess_minor} of a refund of {event.amount_minor} are said to have been returned before"
            self._violation(Invariant.REFUNDS_WITHIN_CAPTURES, what, event.order)
        key = owed_key(event.hold, event.refund)
        payment.returned_twice[key] = payment.returned_twice.get(key, 0) + event.excess_minor
        payment.hold_alarms = True
        self._findings.alarm(
            f"group {self.key} order {event.order}: {event.excess_minor} of hold {event.hold} were returned twice"
        )

    def _returned_by_command(self, event: Any, due: int, hold: Hold) -> None:
        """A command returns at most its amount, and a part counts as returned twice only if all of it was returned."""
        payment = self._payment(event.order)
        returned = payment.returned[event.refund] = payment.returned.get(event.refund, 0) + due
        request = payment.refunds.get(event.refund)
        wanted = 0 if request is None else request.amount
        short = returned < wanted and event.excess_minor and not (hold.lost or hold.disputed)
        if self.rules_version > 1 and (returned > wanted or short):
            what = f"refund {event.refund} of {wanted} returned {returned}, and {event.excess_minor} a second time"
            self._violation(Invariant.REFUNDS_WITHIN_CAPTURES, what, event.order)

    def _refund_declined(self, event: Any) -> None:
        payment = self._payment(event.order)
        if event.refund:
            payment.refunds.setdefault(event.refund, RefundRequest(0, 0))
        # The event names no hold: of refunds without a command, it ends the oldest one of its amount.
        returns = payment.returns.items()
        _end_refund(payment, event.refund, next((hold for hold, due in returns if due == event.amount_minor), ""))
        if not event.refund and self.rules_version == 1:
            payment.declined_minor += event.amount_minor
            self._findings.alarm(
                f"group {self.key} order {event.order}: the refund of {event.amount_minor} was declined: {event.reason}"
            )

    def _suspense_recorded(self, event: Any) -> None:
        payment = self._payment(event.order)
        payment.hold_alarms = True
        if event.hold == payment.action_hold:
            payment.action_url = payment.action_hold = ""
        hold = payment.holds.get(event.hold)
        if hold is None:
            if event.amount_minor:
                hold = payment.holds[event.hold] = Hold(event.order, event.amount_minor, event.currency)
                hold.suspense = hold.unexpected = event.amount_minor
                hold.authorised_ms = self._at_ms
                if event.taken:
                    hold.captured = event.amount_minor
        else:
            # Taken from a hold that had been released, or more than was requested.
            hold.released -= event.amount_minor
            hold.captured += event.amount_minor
            hold.unexpected += event.amount_minor
        self._findings.alarm(
            f"group {self.key} order {event.order}: unexpected {event.amount_minor} {event.currency}, "
            f"hold {event.hold}: {event.reason}"
        )

    #: The method of each kind of event about money that goes back.
    REFUND_HANDLERS: ClassVar[Mapping[str, Callable[[Refunds, Any], None]]] = {
        "refund_requested": _refund_requested,
        "refunded": _refunded,
        "refund_declined": _refund_declined,
        "suspense_recorded": _suspense_recorded,
    }


def owed_key(hold: str, refund: str) -> str:
    """The name of the sum that is owed for a hold and a refund."""
    return f"{hold} {refund}"


def add_refund(payment: Payment, call: Any, at_ms: int) -> None:
    """A refund is pending."""
    if call.refund:
        payment.pending[f"refund {call.refund}"] = at_ms
        payment.commanded[call.refund] = call.amount_minor
        return
    payment.pending[f"return {call.hold}"] = at_ms
    payment.returns[call.hold] = call.amount_minor


def _end_refund(payment: Payment, refund: str, hold: str) -> None:
    if refund:
        payment.pending.pop(f"refund {refund}", None)
        payment.commanded.pop(refund, None)
        return
    payment.pending.pop(f"return {hold}", None)
    payment.returns.pop(hold, None)
