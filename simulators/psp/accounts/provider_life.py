"""The provider's own life: operations by hand, undone refunds, disputes, fraud warnings, payouts.

Each is made on request or as the rules have planned it, in one transaction with its notices. For the thread that writes
the account book.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts import consequences, holds
from simulators.psp.accounts.account_book import DISPUTED, AccountBook, fingerprint_of
from simulators.psp.accounts.balance import Booking
from simulators.psp.accounts.details import BY_HAND
from simulators.psp.accounts.holds import Hold, NotFound, NotPossible, Refusal, hold_id
from simulators.psp.accounts.incidents import CLOSED, Dispute, Plan
from simulators.psp.accounts.statement_entries import wire_of
from simulators.psp.stripe import objects as stripe_objects
from simulators.psp.wechat import objects as wechat_objects

#: Time that the merchant has for evidence.
EVIDENCE_MS = 7 * 24 * 3_600_000
DEFAULT_REASON = "fraudulent"
#: Plans carried out in one transaction.
MAX_PLANS = 200

DISPUTE_STATUS: Mapping[pb.DisputeState.ValueType, pb.Status.ValueType] = {
    pb.DISPUTE_STATE_NEEDS_RESPONSE: pb.STATUS_DISPUTE_EVIDENCE_DUE,
    pb.DISPUTE_STATE_UNDER_REVIEW: pb.STATUS_DISPUTE_UNDER_REVIEW,
    pb.DISPUTE_STATE_WON: pb.STATUS_DISPUTE_WON,
    pb.DISPUTE_STATE_LOST: pb.STATUS_DISPUTE_LOST,
}
UNDOING_REASON = {
    pb.STATUS_REFUND_FAILED: "expired_or_canceled_card",
    pb.STATUS_REFUND_REVERSED: "reversed by the provider",
}


class UndoneRefund(NamedTuple):
    """Subject of a change: a refund that was undone, by its key. `metadata` None: the standard one."""

    key: str
    metadata: dict[str, str] | None


class FraudWarning(NamedTuple):
    """Subject of a change: a fraud warning."""

    at_ms: int


class ProviderLife:
    """Incidents of one account book."""

    def __init__(self, book: AccountBook) -> None:
        self._book = book
        self._next_payout_ms = 0

    def operate_by_hand(self, request: pb.OperateByHandRequest) -> pb.CallResult:
        """Makes an operation in the dashboard. Raises NotFound, NotPossible."""
        with self._book.transaction() as at_ms:
            hold = self.find(request.hold)
            number = self._book.incidents.externals(hold.hold)
            name = hashlib.sha256(f"{hold.hold}/{number}".encode()).hexdigest()[:16]
            made = _by_hand(request, hold, BY_HAND + name)
            result = self._applied(made, hold, at_ms)
            if result.status in {pb.STATUS_DECLINED, pb.STATUS_HOLD_GONE}:
                raise NotPossible(result.reason or "the hold has expired")
            self._book.record(made.key, fingerprint_of(made), result)
            self._book.save(hold)
            self._book.incidents.add_external(made.key, hold.hold, request.kind, result.amount_minor, at_ms)
            self._book.consequences.record(made, result, hold, at_ms)
            self._book.announce(made, result, hold, at_ms)
            return result

    def undo_refund(self, request: pb.UndoRefundRequest) -> pb.CallResult:
        """Undoes a refund. Raises NotFound, NotPossible."""
        status = pb.STATUS_REFUND_REVERSED if request.reversed else pb.STATUS_REFUND_FAILED
        with self._book.transaction() as at_ms:
            return self._undo(request.key, status, at_ms)

    def open_dispute(self, request: pb.OpenDisputeRequest) -> tuple[Dispute, Hold]:
        """Opens a dispute. Raises NotFound, NotPossible."""
        with self._book.transaction() as at_ms:
            hold = self.find(request.hold)
            return self._open(hold, request.amount_minor, request.reason or DEFAULT_REASON, at_ms), hold

    def update_dispute(self, name: str, state: pb.DisputeState.ValueType) -> tuple[Dispute, Hold]:
        """Moves a dispute on. Raises NotFound, NotPossible for a closed one."""
        with self._book.transaction() as at_ms:
            return self._move(name, state, at_ms)

    def warn_of_fraud(self, request: pb.WarnOfFraudRequest) -> pb.CallResult:
        """Warns of fraud, once for each hold. Raises NotFound, NotPossible."""
        with self._book.transaction() as at_ms:
            return self._warn(self.find(request.hold), at_ms)

    def pay_out(self, currency: str = "", wire: str = "") -> list[Booking]:
        """Pays out each positive balance of a currency and a wire; empty: of each."""
        with self._book.transaction() as at_ms:
            return self._book.balance.pay_out(at_ms, currency, wire)

    def due(self, at_ms: int) -> bool:
        """Whether `advance` has anything to do."""
        next_ms = self._book.incidents.next_due_ms
        return (next_ms is not None and next_ms <= at_ms) or self._payout_due(at_ms)

    def advance(self) -> int:
        """Carries out plans that are due, and the periodic payout. Returns the number of plans."""
        with self._book.transaction() as at_ms:
            plans = self._book.incidents.take_due(at_ms, MAX_PLANS)
            for plan in plans:
                self._carry_out(plan, at_ms)
            if self._payout_due(at_ms):
                if self._next_payout_ms:
                    self._book.balance.pay_out(at_ms)
                self._next_payout_ms = at_ms + self._book.consequences.rules.behaviour.payout_every_ms
            return len(plans)

    def find(self, reference: str) -> Hold:
        """A hold by its reference at its wire. Raises NotFound."""
        for name in (reference, stripe_objects.hold_of(reference), hold_id(reference)):
            try:
                return self._book.load(name)
            except NotFound:
                continue
        raise NotFound(f"no hold {reference}")

    def _payout_due(self, at_ms: int) -> bool:
        every_ms = self._book.consequences.rules.behaviour.payout_every_ms
        return bool(every_ms) and self._next_payout_ms <= at_ms

    def _carry_out(self, plan: Plan, at_ms: int) -> None:
        rules, subject = self._book.consequences.rules, plan.subject
        won = rules.merchant_wins(subject)
        ends = pb.DISPUTE_STATE_WON if won else pb.DISPUTE_STATE_LOST
        steps: Mapping[str, Callable[[], object]] = {
            consequences.FAIL_REFUND: lambda: self._undo(subject, pb.STATUS_REFUND_FAILED, at_ms),
            consequences.REVERSE_REFUND: lambda: self._undo(subject, pb.STATUS_REFUND_REVERSED, at_ms),
            consequences.DISPUTE: lambda: self._open(self._book.load(subject), 0, DEFAULT_REASON, at_ms),
            consequences.WARN: lambda: self._warn(self._book.load(subject), at_ms),
            consequences.CLOSE_DISPUTE: lambda: self._move(subject, ends, at_ms),
            consequences.LAPSE: lambda: self._lapse(subject, at_ms),
        }
        try:
            steps[plan.kind]()
        except Refusal:
            # Overtaken by another incident: the payment was refunded, or somebody has closed the dispute.
            return

    def _applied(
        self, made: pb.RefundRequest | pb.CaptureRequest | pb.VoidRequest, hold: Hold, at_ms: int
    ) -> pb.CallResult:
        if isinstance(made, pb.VoidRequest):
            return holds.void(hold, made, at_ms)
        if isinstance(made, pb.CaptureRequest):
            return holds.capture(hold, made, at_ms)
        disputed = any(one.taken_minor for one in self._book.incidents.disputes(hold.hold))
        return holds.refund(hold, made, at_ms, DISPUTED if disputed else "")

    def _undo(self, key: str, status: pb.Status.ValueType, at_ms: int) -> pb.CallResult:
        made = self._book.look_up(self._refund_key(key))
        if made.status != pb.STATUS_REFUNDED:
            raise NotPossible(f"call {key} is no refund that has succeeded")
        key = made.key
        hold = self._book.load(made.hold)
        result = holds.undo_refund(hold, key, made.amount_minor, status, UNDOING_REASON[status])
        self._book.save(hold)
        self._book.incidents.undo(key, hold.hold, made.amount_minor, status, at_ms)
        book = self._book.consequences
        fee_minor = book.rules.returned_fee_minor(wire_of(hold.payment_method), made.amount_minor)
        book.book(pb.BALANCE_KIND_REFUND_UNDONE, hold, key, made.amount_minor, fee_minor, at_ms)
        self._book.announce(UndoneRefund(key, self._book.details.get(key).metadata), result, hold, at_ms)
        return result

    def _refund_key(self, key: str) -> str:
        """The key of a refund, given that or its id at Stripe."""
        if not key.startswith("re_"):
            return key
        account = self._book.account(stripe_objects.hold_of_refund(key))
        found = [one for one in account.calls if stripe_objects.refund_id(account.hold.hold, one) == key]
        return found[0] if found else key

    def _open(self, hold: Hold, amount_minor: int, reason: str, at_ms: int) -> Dispute:
        rules, incidents = self._book.consequences.rules, self._book.incidents
        earlier = incidents.disputes(hold.hold)
        left_minor = hold.captured_minor - hold.refunded_minor - sum(one.taken_minor for one in earlier)
        minor = amount_minor or left_minor
        if not 0 < minor <= left_minor:
            raise NotPossible(f"{left_minor} of the payment can be disputed, not {minor}")
        takes_money = wire_of(hold.payment_method) != wechat_objects.WIRE
        name = "dp_" + hashlib.sha256(f"{hold.hold}/{len(earlier)}".encode()).hexdigest()[:24]
        fee_minor = rules.behaviour.dispute_fee_minor if takes_money else 0
        state = pb.DISPUTE_STATE_NEEDS_RESPONSE
        due_ms = at_ms + EVIDENCE_MS
        made = Dispute(
            name, hold.hold, minor, hold.currency, fee_minor, reason, state, at_ms, due_ms, takes_money=takes_money
        )
        incidents.save_dispute(made)
        if takes_money:
            self._book.consequences.book(pb.BALANCE_KIND_DISPUTE, hold, name, -minor, fee_minor, at_ms)
        incidents.plan(due_ms, consequences.LAPSE, name)
        if rules.behaviour.dispute_close_ms:
            incidents.plan(at_ms + rules.behaviour.dispute_close_ms, consequences.CLOSE_DISPUTE, name)
        self._announce_dispute(made, pb.STATUS_DISPUTE_OPENED, hold, at_ms)
        return made

    def _move(self, name: str, state: pb.DisputeState.ValueType, at_ms: int) -> tuple[Dispute, Hold]:
        dispute = self._book.incidents.dispute(name)
        if dispute is None:
            raise NotFound(f"no dispute {name}")
        if dispute.state in CLOSED:
            raise NotPossible(f"dispute {name} is closed")
        hold, moved = self._book.load(dispute.hold), dispute._replace(state=state)
        self._book.incidents.save_dispute(moved)
        if returned_minor := dispute.taken_minor - moved.taken_minor:
            self._book.consequences.book(pb.BALANCE_KIND_DISPUTE_REVERSAL, hold, name, returned_minor, 0, at_ms)
        self._announce_dispute(moved, DISPUTE_STATUS[state], hold, at_ms)
        return moved, hold

    def _lapse(self, name: str, at_ms: int) -> None:
        """Closes a dispute for which no evidence has come in time."""
        dispute = self._book.incidents.dispute(name)
        if dispute is not None and dispute.state == pb.DISPUTE_STATE_NEEDS_RESPONSE:
            self._move(name, pb.DISPUTE_STATE_LOST, at_ms)

    def _announce_dispute(self, dispute: Dispute, status: pb.Status.ValueType, hold: Hold, at_ms: int) -> None:
        result = hold.result(dispute.dispute, holds.Answer(status, dispute.reason), dispute.amount_minor)
        self._book.announce(dispute, result, hold, at_ms)

    def _warn(self, hold: Hold, at_ms: int) -> pb.CallResult:
        if not hold.captured_minor or not self._book.incidents.warn(hold.hold, at_ms):
            raise NotPossible("the payment has taken no money, or there is a warning already")
        name = "issfr_" + hold.hold.removeprefix("hold_")
        result = hold.result(name, holds.Answer(pb.STATUS_FRAUD_WARNING, DEFAULT_REASON))
        self._book.announce(FraudWarning(at_ms), result, hold, at_ms)
        return result


def _by_hand(
    request: pb.OperateByHandRequest, hold: Hold, key: str
) -> pb.RefundRequest | pb.CaptureRequest | pb.VoidRequest:
    """The call that an operation by hand amounts to. Raises NotPossible."""
    if request.kind == pb.EXTERNAL_KIND_CANCEL:
        return pb.VoidRequest(key=key, hold=hold.hold)
    if request.kind == pb.EXTERNAL_KIND_CAPTURE:
        return pb.CaptureRequest(key=key, hold=hold.hold, amount_minor=request.amount_minor or hold.open_minor)
    minor = request.amount_minor or hold.captured_minor - hold.refunded_minor
    if not minor:
        raise NotPossible("the payment has no money to refund")
    return pb.RefundRequest(key=key, hold=hold.hold, amount_minor=minor)
