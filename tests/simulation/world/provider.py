"""The simulated payment provider: idempotent by key, with correct accounts and unreliable responses.

The seed and a call's key alone decide whether its response is lost, before or after the effect. Removing something from
a history therefore changes as little else as possible.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_CALL,
    OUTCOME_ORIGIN_NOTIFICATION,
    OutcomeOrigin,
    ProviderOutcome,
)

from services.payments.domain.output.provider_calls import idempotency_key
from tests.simulation.audit.violation import Violation
from tests.simulation.histories.coverage import Coverage

HOLD_LIFE_MS = 7 * 86_400_000
SHORT_LIFE_MS = 3_600_000
#: A shopper who confirms does so within this time.
CONFIRM_MS = 400_000


class Account:
    """One hold in the provider's accounts, in minor units."""

    __slots__ = (
        "captured", "captures", "currency", "disputed", "fees", "group", "held", "made_by", "open", "order", "pending",
        "reference", "refunded", "released", "until_ms",
    )  # fmt: skip

    def __init__(self, reference: str, group: str, made_by: ProviderCall, until_ms: int) -> None:
        self.reference = reference
        self.group = group
        self.order = made_by.order
        self.currency = made_by.currency
        self.made_by = made_by
        self.until_ms = until_ms
        self.pending = True
        #: The authorised amount and its parts: held = captured + released + open.
        self.held = self.captured = self.released = self.refunded = self.open = 0
        #: Withdrawn by disputes that are open or lost.
        self.disputed = self.fees = 0
        self.captures = 0

    def take_up(self, amount: int, sale: bool) -> None:
        """Holds an amount, or takes it at once."""
        self.pending = False
        self.held = amount
        if sale:
            self.captured, self.captures = amount, 1
        else:
            self.open = amount

    @property
    def refundable(self) -> int:
        """Taken money that can be refunded."""
        return self.captured - self.refunded - self.disputed

    def release_open(self) -> None:
        """Releases the open amount. A hold that waits for its confirmation ends."""
        self.pending = False
        self.released += self.open
        self.open = 0


#: (delay in milliseconds, group, outcome): schedules a notification.
Notify = Callable[[int, str, ProviderOutcome], None]


class Provider:
    """The provider of one world. While `unwell`, it fails with probabilities given in thousandths."""

    def __init__(
        self, seed: int, coverage: Coverage, notify: Notify, on_capture: Callable[[Account, int], None]
    ) -> None:
        self._salt = f"{seed}/"
        self._coverage = coverage
        self._schedule_notification = notify
        self._on_capture = on_capture
        self.unwell = True
        self.now_ms = 0
        self.accounts: dict[str, Account] = {}
        self.results: dict[str, ProviderOutcome] = {}
        self._payloads: dict[str, tuple[int, str, str]] = {}
        self._tries: dict[str, int] = {}
        #: The last call of each order with its group, in the order of the calls.
        self.last: dict[str, tuple[ProviderCall, str]] = {}
        #: Called with each refund without a command that is refused, and its group.
        self.on_refund_refused: Callable[[str, ProviderCall], None] = lambda group, call: None
        #: Whether each check found its hold ended, by key; two answers if it ended between two attempts.
        self.checked: dict[str, set[bool]] = {}
        #: Keys of calls that fail until all faults end.
        self.stuck: set[str] = set()
        #: Pending confirmations: key -> (call, group).
        self._waiting: dict[str, tuple[ProviderCall, str]] = {}

    def roll(self, what: str, thousandths: int) -> bool:
        """Whether an event of this name happens, with a probability in thousandths."""
        return crc32((self._salt + what).encode()) % 1000 < thousandths

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call and returns its result as the caller learns it; the adapter's protocol."""
        name = idempotency_key(call)
        self.last.pop(call.order, None)
        self.last[call.order] = (call, group)
        payload = (call.amount_minor, call.hold, call.currency)
        if self._payloads.setdefault(name, payload) != payload:
            raise Violation("one payload a key", group, f"{name} was sent with another payload")
        tries = self._tries[name] = self._tries.get(name, 0) + 1
        count = self._coverage.count
        if self.unwell and name in self.stuck:
            count("fault", "call stuck")
            return self._later(call, name, tries)
        if self.unwell and self.roll(f"{name}/{tries}/config", 8):
            count("fault", "wrong configuration")
            blocked = _outcome(call)
            blocked.not_possible.error = "no such payment for this key"
            return blocked
        if self.unwell and self.roll(f"{name}/{tries}/lost", 70):
            count("fault", "time-out, not done")
            return self._later(call, name, tries)
        known = self.results.get(name) if call.operation != pb.OPERATION_CHECK else self._check(call)
        if known is None:
            if self.unwell and self.roll(f"{name}/absent", 15):
                count("fault", "proven absent")
                known = _outcome(call)
                known.absent.SetInParent()
                if self.roll(f"{name}/error", 500):
                    count("fault", "failed at the provider, proven not done")
                    known.absent.error = "internal error"
            else:
                known = self._effect(call, group, name)
            self.results[name] = known
        if self.unwell and self.roll(f"{name}/{tries}/answer", 70):
            count("fault", "time-out, done")
            return self._later(call, name, tries)
        if self.unwell and self.roll(f"{name}/{tries}/notify", 80):
            count("fault", "late notification")
            self._notify(group, known, crc32(name.encode()) % 900_000)
        return known

    def _later(self, call: ProviderCall, name: str, tries: int) -> ProviderOutcome:
        outcome = _outcome(call)
        outcome.retry_later.error = "timeout"
        if self.roll(f"{name}/{tries}/wish", 200):
            outcome.retry_later.after_ms = 7_000
        return outcome

    def _notify(self, group: str, known: ProviderOutcome, delay_ms: int) -> None:
        notification = ProviderOutcome()
        notification.CopyFrom(known)
        notification.origin = OUTCOME_ORIGIN_NOTIFICATION
        self._schedule_notification(delay_ms, group, notification)

    def _check(self, call: ProviderCall) -> ProviderOutcome:
        """The state of a hold now; a check has no result that could be kept."""
        outcome, account = _outcome(call), self.accounts[call.hold]
        if account.open and account.until_ms <= self.now_ms:
            account.release_open()
        if account.open:
            outcome.authorised.hold = account.reference
            outcome.authorised.amount_minor = account.open
            outcome.authorised.currency = account.currency
        elif account.captured:
            outcome.captured.hold = account.reference
            outcome.captured.amount_minor = account.captured
        else:
            outcome.hold_gone.hold = account.reference
        self._coverage.count("fault", f"checked hold {'open' if account.open else 'ended'}")
        self.checked.setdefault(idempotency_key(call), set()).add(not account.open)
        return outcome

    # Effects ----------------------------------------------------------------------------------------------------

    def _effect(self, call: ProviderCall, group: str, name: str) -> ProviderOutcome:
        if call.operation in (pb.OPERATION_AUTHORISE, pb.OPERATION_SALE):
            return self._make_hold(call, group, name)
        outcome = _outcome(call)
        account = self.accounts.get(call.hold)
        if account is None:
            outcome.declined.reason = "no such hold"
            return outcome
        if account.open and account.until_ms <= self.now_ms:
            account.release_open()
        if call.operation == pb.OPERATION_CAPTURE:
            self._capture(call, account, outcome)
        elif call.operation == pb.OPERATION_VOID:
            self._void(call, account, outcome, name)
        else:
            self._refund(call, account, outcome, name)
        return outcome

    def _make_hold(self, call: ProviderCall, group: str, name: str) -> ProviderOutcome:
        method = call.payment_method
        outcome = _outcome(call)
        if method.endswith("_declined") or (self.unwell and self.roll(f"{name}/declined", 15)):
            self._coverage.count("fault", "declined at authorise")
            outcome.declined.reason = "card declined"
            return outcome
        reference = f"h{len(self.accounts)}.{name[:8]}"
        # A hold that is made anew at the capture may be short: the capture is at risk.
        short = method.endswith("_short") or (call.attempt > 1 and self.roll(f"{name}/life", 500))
        life_ms = SHORT_LIFE_MS if short else HOLD_LIFE_MS
        account = Account(reference, group, call, self.now_ms + life_ms)
        self.accounts[reference] = account
        if method.endswith("_action"):
            outcome.action_required.hold = reference
            outcome.action_required.action_url = f"https://confirm/{reference}"
            # A shopper always reacts to a renewed payment. At the first payment, many never do.
            if call.attempt > 1 or self.roll(f"{name}/confirms", 650):
                self._waiting[name] = (call, group)
                self._schedule_notification(crc32(name.encode()) % CONFIRM_MS, group, _confirmation(call))
            return outcome
        return self._authorised(call, account, outcome)

    def _authorised(self, call: ProviderCall, account: Account, outcome: ProviderOutcome) -> ProviderOutcome:
        sale = call.operation == pb.OPERATION_SALE
        account.take_up(call.amount_minor, sale)
        made = outcome.authorised
        made.hold = account.reference
        made.amount_minor = call.amount_minor
        made.currency = call.currency
        made.capturable_until_ms = 0 if sale else account.until_ms
        return outcome

    def confirm(self, pending: ProviderOutcome) -> ProviderOutcome | None:
        """The shopper confirms or refuses at the provider. Returns the notification, or None if there is none."""
        name = f"{pending.order}:{'sale' if pending.operation == pb.OPERATION_SALE else 'authorise'}:{pending.attempt}"
        call, _ = self._waiting.pop(name)
        known = self.results.get(name)
        if known is None or known.WhichOneof("result") != "action_required":
            return None
        account = self.accounts[known.action_required.hold]
        if not account.pending:
            return None
        if self.roll(f"{name}/refuses", 200):
            account.pending = False
            outcome = self.results[name] = _outcome(call)
            outcome.declined.reason = "not confirmed"
        else:
            outcome = self.paid(call, account)
        if not self.roll(f"{name}/silent", 300):
            notification = ProviderOutcome()
            notification.CopyFrom(outcome)
            notification.origin = OUTCOME_ORIGIN_NOTIFICATION
            return notification
        return None

    def paid(self, call: ProviderCall, account: Account) -> ProviderOutcome:
        """Records that the shopper has confirmed: the call's result is now the hold."""
        outcome = self.results[idempotency_key(call)] = self._authorised(call, account, _outcome(call))
        return outcome

    def _capture(self, call: ProviderCall, account: Account, outcome: ProviderOutcome) -> None:
        if account.pending:
            outcome.declined.reason = "not confirmed"
        elif account.captures:
            outcome.declined.reason = "already captured"
        elif not account.open:
            outcome.hold_gone.hold = account.reference
        elif call.payment_method.endswith("_decline_capture") or call.amount_minor > account.open:
            self._coverage.count("fault", "declined at capture")
            outcome.declined.reason = "card declined"
        else:
            self._on_capture(account, call.amount_minor)
            self.take(account, call.amount_minor)
            outcome.captured.hold = account.reference
            outcome.captured.amount_minor = call.amount_minor

    def take(self, account: Account, amount: int) -> None:
        """Takes an amount of a hold and releases the rest."""
        account.captured += amount
        account.captures += 1
        account.open -= amount
        account.release_open()

    def _void(self, call: ProviderCall, account: Account, outcome: ProviderOutcome, name: str) -> None:
        if account.captures and self.roll(f"{name}/why", 500):
            # Some real providers respond so.
            outcome.captured.hold = account.reference
            outcome.captured.amount_minor = account.captured
        elif account.captures:
            outcome.declined.reason = "captured"
        elif account.held and not account.open and account.until_ms <= self.now_ms:
            outcome.hold_gone.hold = account.reference
        else:
            account.release_open()
            outcome.voided.hold = account.reference

    def _refund(self, call: ProviderCall, account: Account, outcome: ProviderOutcome, name: str) -> None:
        if call.amount_minor > account.refundable:
            if not call.refund:
                self.on_refund_refused(account.group, call)
            outcome.declined.reason = "above what was captured"
        elif call.refund and self.unwell and self.roll(f"{name}/refund", 100):
            self._coverage.count("fault", "refund declined")
            outcome.declined.reason = "account closed"
        elif not call.refund and self.unwell and self.roll(f"{name}/return", 60):
            self._coverage.count("fault", "return refused")
            self.on_refund_refused(account.group, call)
            outcome.declined.reason = "card expired"
        else:
            account.refunded += call.amount_minor
            outcome.refunded.hold = account.reference
            outcome.refunded.amount_minor = call.amount_minor


def _outcome(call: ProviderCall, origin: OutcomeOrigin.ValueType = OUTCOME_ORIGIN_CALL) -> ProviderOutcome:
    return ProviderOutcome(order=call.order, operation=call.operation, attempt=call.attempt, origin=origin)


def _confirmation(call: ProviderCall) -> ProviderOutcome:
    """A scheduled confirmation: an outcome without a result, which is appended to no topic."""
    return _outcome(call)
