"""Actions of providers on their own account, and of operators: the part of GroupPaymentsFold about rules version 2.

Sums that are owed, refunds that come back, disputes, operations of persons at the provider, fees, payouts, adjustments
and commands. An owed sum only falls by money that reached the customer, or that a dispute withdrew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from groupbuy.payments.v1.decisions_pb2 import OPERATION_REFUND, Operation

from ops.audit.findings import Invariant
from ops.audit.money.holds import Dispute, Hold, Intent, Owed, Payment
from ops.audit.money.refunds import Refunds, owed_key

#: In Payment.references: an operator released the member instead of charging it.
RELEASED_BY_OPERATOR = "released by an operator"


class ProviderLife(Refunds):
    """The payments of one group, with the news of providers and the commands of operators."""

    __slots__ = ()

    def _rules_selected(self, event: Any) -> None:
        if self.chain.version != 1 or event.rules_version < 2:
            self._violation(Invariant.VERSIONS, f"rules version {event.rules_version} is selected, not at the first")
        self.rules_version = event.rules_version

    # --- owed --------------------------------------------------------------------------------------------------------

    def _money_owed(self, event: Any) -> None:
        payment = self._payment(event.order)
        key = owed_key(event.hold, event.refund)
        before = payment.debts.pop(key, None)
        fell = (0 if before is None else before.amount) - event.amount_minor
        if fell > 0:
            place = event.order, event.hold
            reached = self._reached.get(place, 0)
            if fell > reached:
                what = f"owes {fell} less for hold {event.hold}, of which {reached} reached the customer"
                self._violation(Invariant.OWED, what, event.order)
            self._reached[place] = max(0, reached - fell)
        if event.amount_minor < 0:
            self._violation(Invariant.OWED, f"owes {event.amount_minor}", event.order)
        if event.amount_minor and not (event.next_attempt_ms or event.alarm):
            self._unattended.append((event.order, key))
        if event.amount_minor > 0:
            payment.owed_ever.add(key)
            payment.debts[key] = Owed(event.hold, event.refund, event.amount_minor, event.reason, event.alarm)
            if event.alarm:
                self._alarm(event.order, f"owes {event.amount_minor} {event.currency}: {event.reason}")

    def _check_unattended(self) -> None:
        """A sum without a next attempt and without an alarm has its refund pending at the end of the decision."""
        for order, key in self._unattended:
            payment = self._payment(order)
            debt = payment.debts.get(key)
            if debt is not None and not payment.pending.keys() & {f"refund {debt.refund}", f"return {debt.hold}"}:
                what = f"owes {debt.amount}, without a next attempt and without an alarm"
                self._violation(Invariant.OWED, what, order)

    def _refund_reversed(self, event: Any) -> None:
        payment = self._payment(event.order)
        hold = self._hold(event, "reversed refund")
        if hold is None:
            return
        amount = event.amount_minor
        if amount <= 0 or amount > hold.refunded:
            what = f"a refund of {amount} came back, {hold.refunded} were refunded of hold {event.hold}"
            self._violation(Invariant.REFUNDS_WITHIN_CAPTURES, what, event.order)
        hold.refunded -= amount
        if not event.reference:
            explained = _explain(payment, owed_key(event.hold, event.refund), amount)
            if explained != event.excess_minor:
                what = f"of a refund that came back, {event.excess_minor} are said to be of {explained} returned twice"
                self._violation(Invariant.OWED, what, event.order)
            amount -= explained
            if not amount:
                return
        if event.refund:
            payment.returned[event.refund] = payment.returned.get(event.refund, 0) - amount
        charge = payment.references.get(f"operation {event.reference}", 0) if event.reference else amount
        part = min(amount, charge, hold.charge_refunds) if event.refund or event.reference else 0
        hold.charge_refunds -= part
        hold.own_refunds -= amount - part
        if event.reference:
            hold.keep_again(amount - part)
        hold.cover()
        if not event.reference:
            self._reversed.append((event.order, event.hold, event.refund))

    def _check_reversed(self) -> None:
        """A refund that came back is owed again, by the same decision."""
        for order, reference, refund in self._reversed:
            payment = self._payment(order)
            hold = payment.holds[reference]
            owed = any(debt.hold == reference for debt in payment.debts.values())
            reduced = refund and hold.charge_left > 0
            if not owed and (reduced or hold.merchants > hold.kept) and not hold.disputed:
                self._violation(Invariant.OWED, f"a refund of hold {reference} came back, and is not owed", order)
            debt = payment.debts.get(owed_key(reference, ""))
            kept = hold.charge_refunds if payment.intent is Intent.RELEASE else hold.kept
            due = hold.merchants - kept - hold.disputed
            owed_minor = 0 if debt is None else debt.amount
            if not refund and due > owed_minor:
                what = f"a refund of hold {reference} came back; {due} are due, {owed_minor} are owed"
                self._violation(Invariant.OWED, what, order)

    def _returned_outside(self, event: Any) -> None:
        payment = self._payment(event.order)
        hold = self._hold(event, "return by other means")
        debt = payment.debts.get(owed_key(event.hold, event.refund))
        if debt is None or not 0 < event.amount_minor <= debt.amount:
            owed = 0 if debt is None else debt.amount
            what = f"{event.amount_minor} are returned by other means, {owed} were owed"
            self._violation(Invariant.OWED, what, event.order)
        if not event.reference:
            self._violation(Invariant.REPAIRS, "a return by other means has no reference", event.order)
        self._needs_command("mark_returned_outside", event.order)
        if hold is not None:
            self._returned(event.order, event.hold, hold, event.amount_minor, charge=bool(event.refund))
        if event.refund:
            payment.returned[event.refund] = payment.returned.get(event.refund, 0) + event.amount_minor

    # --- disputes ----------------------------------------------------------------------------------------------------

    def _dispute_opened(self, event: Any) -> None:
        payment = self._payment(event.order)
        hold = self._hold(event, "dispute")
        if hold is None:
            return
        before = payment.disputes.get(event.dispute)
        if f"dispute {event.dispute}" in payment.references and before is None:
            self._violation(Invariant.ONE_END_OF_ORDER, f"dispute {event.dispute} is opened after its end", event.order)
        known = payment.references.get(f"dispute {event.dispute}", 0)
        payment.references[f"dispute {event.dispute}"] = event.fee_minor
        withdrawn = event.withdrawn_minor - (0 if before is None else before.withdrawn)
        hold.disputed += withdrawn
        hold.fees += event.fee_minor - known
        payment.disputes[event.dispute] = Dispute(event.hold, event.withdrawn_minor)
        self._reach(event.order, event.hold, max(0, withdrawn))

    def _dispute_won(self, event: Any) -> None:
        self._end_dispute(event)

    def _dispute_lost(self, event: Any) -> None:
        hold = self._end_dispute(event)
        if hold is not None:
            hold.lose(event.amount_minor)
            self._reach(event.order, event.hold, event.amount_minor)

    def _end_dispute(self, event: Any) -> Hold | None:
        known = self._payment(event.order).disputes.pop(event.dispute, None)
        if known is None:
            self._violation(Invariant.ONE_END_OF_ORDER, f"dispute {event.dispute} ends, and is not open", event.order)
            return None
        hold = self._hold(event, "dispute")
        if hold is None:
            return None
        if event.amount_minor != known.withdrawn:
            what = f"dispute {event.dispute} ends with {event.amount_minor}, {known.withdrawn} were withdrawn"
            self._violation(Invariant.HELD_IS_ACCOUNTED_FOR, what, event.order)
        hold.disputed -= known.withdrawn
        return hold

    # --- the provider's books ----------------------------------------------------------------------------------------

    def _once(self, payment: Payment, order: str, reference: str, amount: int) -> None:
        if reference in payment.references:
            self._violation(Invariant.ONE_END_OF_ORDER, f"{reference} is recorded twice", order)
        payment.references[reference] = amount

    def _external_operation(self, event: Any) -> None:
        order, amount = event.order, event.amount_minor
        payment = self._payment(order)
        part = 0
        hold = payment.holds.get(event.hold)
        if event.operation == OPERATION_REFUND and hold is not None:
            if hold.suspense and not hold.captured:
                hold.captured = hold.suspense
            part = self._returned(order, event.hold, hold, amount, charge=payment.captured)
            hold.give_back_kept()
            hold.refunded += amount
            if hold.refunded > hold.captured:
                what = f"refunded {hold.refunded} of {hold.captured} captured, {amount} of it by a person"
                self._violation(Invariant.REFUNDS_WITHIN_CAPTURES, what, order)
        self._once(payment, order, f"operation {event.reference}", part)

    def _fee_charged(self, event: Any) -> None:
        payment = self._payment(event.order)
        self._once(payment, event.order, f"fee {event.reference}", 0)
        hold = payment.holds.get(event.hold)
        if hold is not None:
            hold.fees += event.amount_minor
            hold.fees_reported = True

    def _paid_out(self, event: Any) -> None:
        payment = self._payment(event.order)
        self._once(payment, event.order, f"payout {event.reference}", 0)
        name = event.payout, event.currency
        payment.payouts[name] = payment.payouts.get(name, 0) + event.amount_minor

    def _fraud_warning(self, event: Any) -> None:
        self._once(self._payment(event.order), event.order, f"warning {event.warning}", 0)

    # --- operators ---------------------------------------------------------------------------------------------------

    def _operator_acted(self, event: Any) -> None:
        if event.request_id in self.acted:
            self._violation(Invariant.REPAIRS, f"command {event.request_id} is decided twice", event.order)
        self.acted.add(event.request_id)
        action = str(event.action.WhichOneof("action"))
        if event.refusal:
            return
        if not event.operator or not event.reason:
            self._violation(Invariant.REPAIRS, f"{action} without an operator or a reason", event.order)
        self._commands.add(action)
        if action == "release_member":
            self._payment(event.order).references[RELEASED_BY_OPERATOR] = 0
        elif action == "adjust_ledger":
            self.proposals[event.request_id] = event.operator
        elif action == "approve_adjustment":
            proposer = self.proposals.get(event.action.approve_adjustment.proposal)
            if proposer in (None, event.operator):
                what = f"an adjustment of {proposer or 'nobody'} is approved by {event.operator}"
                self._violation(Invariant.REPAIRS, what, event.order)

    def _needs_command(self, action: str, order: str) -> None:
        if action not in self._commands:
            self._violation(Invariant.REPAIRS, f"the effect of {action} without the command", order)

    def _suspense_approved(self, event: Any) -> None:
        self._needs_command("approve_return", event.order)

    def _suspense_kept(self, event: Any) -> None:
        self._needs_command("keep_suspense", event.order)
        hold = self._hold(event, "suspense")
        if hold is None:
            return
        if not 0 < event.amount_minor <= hold.suspense_left:
            what = f"{event.amount_minor} in suspense are kept, {hold.suspense_left} wait"
            self._violation(Invariant.HELD_IS_ACCOUNTED_FOR, what, event.order)
        hold.suspense_kept += event.amount_minor

    def _ledger_adjusted(self, event: Any) -> None:
        self._needs_command("approve_adjustment", event.order)
        if self.proposals.pop(event.proposal, None) is None:
            self._violation(Invariant.REPAIRS, "the ledger is adjusted without a proposal", event.order)
        payment, left = self._payment(event.order), event.amount_minor
        for key in tuple(payment.returned_twice):
            if key.startswith(f"{event.hold} "):
                left -= _explain(payment, key, left)

    # --- alarms ------------------------------------------------------------------------------------------------------

    def _alarm(self, order: str, what: str) -> None:
        self._findings.alarm(f"group {self.key} order {order}: {what}")

    def _capture_at_risk(self, event: Any) -> None:
        payment = self._payment(event.order)
        hold = payment.holds.get(event.hold)
        if hold is not None:
            hold.at_risk = payment.hold_alarms = True
        self._alarm(event.order, f"hold {event.hold} is about to end before its capture")

    def _call_given_up(self, event: Any) -> None:
        name = call_name(event)
        self._payment(event.order).alarms[name] = event.error or "given up"
        self._alarm(event.order, f"{name} {event.attempt} is not retried: {event.error}")

    def _hold_check_requested(self, event: Any) -> None:
        call = event.call
        payment = self._payment(call.order)
        hold = payment.holds.get(call.hold)
        if payment.intent is not Intent.HOLD or call.hold != payment.hold or hold is None or not hold.open:
            what = f"a check of hold {call.hold} is requested, which is not open or no longer needed"
            self._violation(Invariant.HELD_IS_ACCOUNTED_FOR, what, call.order)

    def _hold_checked(self, event: Any) -> None:
        if event.ended:
            self._ended.append((event.order, event.hold))

    def _check_ended(self) -> None:
        """Holds that a check found ended are ended by the same decision."""
        for order, name in self._ended:
            hold = self._payment(order).holds.get(name)
            if hold is not None and hold.open and not hold.suspense:
                what = f"a check found hold {name} ended, and {hold.open} count as held"
                self._violation(Invariant.HELD_IS_ACCOUNTED_FOR, what, order)

    def _nothing(self, event: Any) -> None:
        """The event changes neither money nor alarms."""

    #: The method of each kind of event.
    LIFE_HANDLERS: ClassVar[Mapping[str, Callable[[ProviderLife, Any], None]]] = {
        "rules_selected": _rules_selected,
        "money_owed": _money_owed,
        "refund_reversed": _refund_reversed,
        "returned_outside": _returned_outside,
        "dispute_opened": _dispute_opened,
        "dispute_evidence_due": _nothing,
        "dispute_won": _dispute_won,
        "dispute_lost": _dispute_lost,
        "fraud_warning_received": _fraud_warning,
        "external_operation_recorded": _external_operation,
        "fee_charged": _fee_charged,
        "paid_out": _paid_out,
        "operator_acted": _operator_acted,
        "suspense_approved": _suspense_approved,
        "suspense_kept": _suspense_kept,
        "ledger_adjusted": _ledger_adjusted,
        "hold_lost": _nothing,
        "hold_check_requested": _hold_check_requested,
        "hold_checked": _hold_checked,
        "capture_at_risk": _capture_at_risk,
        "call_given_up": _call_given_up,
    }


def _explain(payment: Payment, key: str, amount: int) -> int:
    """Money that was returned twice came back, or an adjustment explains it. Returns the part of `amount`."""
    twice = payment.returned_twice.pop(key, 0)
    if twice > amount:
        payment.returned_twice[key] = twice - amount
    return min(twice, amount)


def call_name(event: Any) -> str:
    """The name of a call's operation, as in Payment.alarms."""
    return Operation.Name(event.operation).removeprefix("OPERATION_").lower()
