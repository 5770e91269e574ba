"""The payments service in memory, for tests of its API: the real rules behind an inbox that decides at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.payments.v1.decisions_pb2 import OPERATION_AUTHORISE, OPERATION_CAPTURE, Operation
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from eventlog.core.aggregate import Aggregate, decide
from eventlog.core.errors import BrokerUnavailable
from eventlog.producing.record_accumulator import Position, Record
from eventlog.views.change_notifier import ChangeNotifier
from services.payments.api.payments import PaymentServicer
from services.payments.api.ports import LedgerView, Notifications
from services.payments.api.webhook_ingest import WebhookIngest
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.state.model import GroupPayments
from services.payments.providers.port import Unaddressed
from tests.scenarios.facts import GROUP
from tests.scenarios.group_events import hold_of, seat_reserved, settlement_requested
from tests.scenarios.inputs import authorised, captured, group_decided, provider_result

ORDER = "6e2d0f6a-4c1b-4c53-8f2e-1a0b5f7d9c01"
TIME_MS = 1_700_000_000_000


class Decider:
    """The payment decider: the kernel's decide on the real rules."""

    def __init__(self) -> None:
        self.notifier = ChangeNotifier()
        self._domain: Any = GroupPaymentsDomain()
        self._aggregates: dict[str, Aggregate[GroupPayments]] = {}
        self._offset = 0
        self.log: list[bytes] = []

    def get(self, key: str) -> Aggregate[GroupPayments] | None:
        found = self._aggregates.get(key)
        return found if found is not None and found.version else None

    def keys(self) -> list[str]:
        """All groups."""
        return list(self._aggregates)

    def receive(self, record: PaymentInput, key: str = GROUP) -> None:
        self._offset += 1
        aggregate = self._aggregates.setdefault(key, Aggregate(key, self._domain.initial(key)))
        sealed = decide(self._domain, aggregate, record.SerializeToString(), self._offset, TIME_MS + self._offset)
        if sealed is not None:
            self.log.append(sealed)
            self.notifier.notify(key)

    def group(self, *events: GroupEvent) -> None:
        self.receive(group_decided(GROUP, *events))

    def provider(self, operation: Operation.ValueType, order: str = "a", attempt: int = 1, **result: Any) -> None:
        self.receive(provider_result(order, operation, attempt, **result))

    def charge(self, order: str = ORDER, amount: int = 100, currency: str = "CNY") -> None:
        """Holds and charges an order."""
        self.reserve(order, amount, currency)
        self.provider(OPERATION_AUTHORISE, order, **authorised(hold_of(order), amount, TIME_MS * 2, currency))
        self.group(settlement_requested(order, amount, currency=currency))
        self.provider(OPERATION_CAPTURE, order, **captured(hold_of(order), amount))

    def reserve(self, order: str, amount: int, currency: str = "CNY") -> None:
        """Reserves a seat, which requests a hold."""
        self.group(
            seat_reserved(
                order,
                "ann",
                amount,
                currency=currency,
                payment_method="card_secret",
                hold_until_ms=TIME_MS + 1000,
            )
        )


class Inbox:
    """The payment inbox. A record is decided at once, unless the inbox is paused or the broker unavailable."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self.records: list[tuple[str, PaymentInput, dict[str, str]]] = []
        self.unavailable = False
        self.paused = False

    async def publish(self, topic: str, record: Record, *, timeout_s: float | None = None) -> Position:
        assert topic == "payments.inbox.v1"
        # Yields to the event loop, as a real broker's client does.
        await asyncio.sleep(0)
        if self.unavailable:
            raise BrokerUnavailable("unavailable")
        appended = PaymentInput.FromString(record.value)
        self.records.append((record.key, appended, {name: raw.decode() for name, raw in record.headers}))
        if not self.paused:
            self._decider.receive(appended, record.key)
        return Position(3, len(self.records) - 1, TIME_MS)


class NoNotifications:
    """Fails on any notification."""

    def verify_and_parse(self, provider: str, headers: Any, body: bytes) -> None:
        raise AssertionError("an unexpected notification")

    async def address(self, provider: str, notification: Unaddressed, timeout_s: float) -> None:
        raise AssertionError("an unexpected notification")


def servicer(
    decider: Decider,
    inbox: Inbox | None = None,
    notifications: Notifications | None = None,
    ledger: LedgerView | None = None,
    now_ms: Callable[[], int] = lambda: TIME_MS,
) -> PaymentServicer:
    """The servicer over a decider."""
    publisher = inbox or Inbox(decider)
    ingest = WebhookIngest(notifications or NoNotifications(), publisher, now_ms)
    return PaymentServicer(decider, publisher, ingest, cast(LedgerView, ledger), now_ms)
