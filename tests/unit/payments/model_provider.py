"""A payment provider for tests, with accounts of its own and faults by chance.

As with real providers, one idempotency key has one effect, a capture ends its hold, and only taken money is refunded.
Results may be lost before or after the effect, holds lapse, and a process that was frozen may hold money twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome

from services.payments.domain.output.provider_calls import idempotency_key


@dataclass
class Account:
    """One hold at the provider, in minor units."""

    order: str
    currency: str
    held: int = 0
    taken: int = 0
    refunded: int = 0
    captures: int = 0
    #: The call that made it.
    made_by: ProviderCall | None = None


@dataclass
class ModelProvider:
    """`chance(per_cent)` decides on each fault. A `healthy` provider has no faults."""

    chance: Callable[[int], bool]
    healthy: bool = False
    accounts: dict[str, Account] = field(default_factory=dict)
    results: dict[str, ProviderOutcome] = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)
    #: Reports without a call, sent sooner or later: each hold that was made.
    late_reports: list[PaymentInput] = field(default_factory=list)
    refused_refunds: int = 0

    def unlucky(self, per_cent: int) -> bool:
        return not self.healthy and self.chance(per_cent)

    def perform(self, call: ProviderCall) -> PaymentInput:
        """Makes a call, or fails to; returns the result that is known afterwards."""
        name = idempotency_key(call)
        payload = call.SerializeToString(deterministic=True)
        assert self.payloads.setdefault(name, payload) == payload, f"{name} was sent with another payload"
        if name not in self.results:
            if self.unlucky(10):
                return self._later(call)
            if self.unlucky(5):
                # Proven absent: a copy that arrives later has no effect.
                self.results[name] = self._outcome(call)
                self.results[name].absent.SetInParent()
            else:
                self.results[name] = self._effect(call)
        if self.unlucky(20):
            return self._later(call)
        known = self.results[name]
        if known.WhichOneof("result") == "action_required" and (self.healthy or self.chance(50)):
            known = self.results[name] = self._confirmed(call, known.action_required.hold)
        return PaymentInput(outcome=known)

    def lapse(self, reference: str) -> PaymentInput | None:
        """A hold ends by itself; the report names the call that made it."""
        account = self.accounts[reference]
        if not account.held or account.made_by is None:
            return None
        account.held = 0
        report = self._outcome(account.made_by)
        report.hold_gone.hold = reference
        return PaymentInput(outcome=report)

    def hold_again(self, reference: str) -> PaymentInput | None:
        """A process that was frozen makes a call a second time, after its key has expired."""
        made_by = self.accounts[reference].made_by
        if made_by is None or made_by.operation == pb.OPERATION_VOID:
            return None
        return PaymentInput(outcome=self._hold(made_by))

    def _outcome(self, call: ProviderCall) -> ProviderOutcome:
        return ProviderOutcome(order=call.order, operation=call.operation, attempt=call.attempt)

    def _later(self, call: ProviderCall) -> PaymentInput:
        outcome = self._outcome(call)
        outcome.retry_later.error = "timeout"
        return PaymentInput(outcome=outcome)

    def _declined(self, call: ProviderCall) -> ProviderOutcome:
        outcome = self._outcome(call)
        outcome.declined.reason = "declined"
        return outcome

    # Effects ----------------------------------------------------------------------------------------------------

    def _effect(self, call: ProviderCall) -> ProviderOutcome:
        match call.operation:
            case pb.OPERATION_AUTHORISE | pb.OPERATION_SALE:
                return self._ask(call)
            case pb.OPERATION_CAPTURE:
                return self._capture(call)
            case pb.OPERATION_VOID:
                return self._void(call)
        return self._refund(call)

    def _ask(self, call: ProviderCall) -> ProviderOutcome:
        if self.unlucky(10):
            return self._declined(call)
        if self.unlucky(15):
            reference = f"hold{len(self.accounts)}"
            self.accounts[reference] = Account(call.order, call.currency)
            outcome = self._outcome(call)
            outcome.action_required.hold = reference
            outcome.action_required.action_url = f"https://confirm/{reference}"
            return outcome
        return self._hold(call)

    def _hold(self, call: ProviderCall, reference: str = "") -> ProviderOutcome:
        reference = reference or f"hold{len(self.accounts)}"
        amount = call.amount_minor + self.unlucky(3)
        sale = call.operation == pb.OPERATION_SALE
        self.accounts[reference] = Account(
            call.order, call.currency, held=0 if sale else amount, taken=amount if sale else 0, made_by=call
        )
        outcome = self._outcome(call)
        outcome.authorised.hold = reference
        outcome.authorised.amount_minor = amount
        outcome.authorised.currency = call.currency
        self.late_reports.append(PaymentInput(outcome=outcome))
        return outcome

    def _confirmed(self, call: ProviderCall, reference: str) -> ProviderOutcome:
        """The shopper has confirmed, or not. A voided payment can't be confirmed."""
        if self.accounts[reference].made_by is not None or self.unlucky(30):
            return self._declined(call)
        return self._hold(call, reference)

    def _capture(self, call: ProviderCall) -> ProviderOutcome:
        account = self.accounts[call.hold]
        outcome = self._outcome(call)
        if not account.held:
            outcome.hold_gone.hold = call.hold
        elif self.unlucky(10):
            return self._declined(call)
        else:
            assert call.amount_minor <= account.held
            account.held = 0
            account.taken = call.amount_minor
            account.captures += 1
            outcome.captured.hold = call.hold
            outcome.captured.amount_minor = call.amount_minor
        return outcome

    def _void(self, call: ProviderCall) -> ProviderOutcome:
        account = self.accounts[call.hold]
        outcome = self._outcome(call)
        if account.taken:
            outcome.captured.hold = call.hold
            outcome.captured.amount_minor = account.taken
        elif self.unlucky(10):
            return self._declined(call)
        elif account.held or account.made_by is None:
            account.held = 0
            account.made_by = account.made_by or call
            outcome.voided.hold = call.hold
        else:
            outcome.hold_gone.hold = call.hold
        return outcome

    def _refund(self, call: ProviderCall) -> ProviderOutcome:
        account = self.accounts[call.hold]
        if self.unlucky(5) or call.amount_minor > account.taken - account.refunded:
            self.refused_refunds += 1
            return self._declined(call)
        account.refunded += call.amount_minor
        outcome = self._outcome(call)
        outcome.refunded.hold = call.hold
        outcome.refunded.amount_minor = call.amount_minor
        return outcome
