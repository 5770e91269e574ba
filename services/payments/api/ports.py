"""Interfaces that the payments API needs from the rest of the process. app.py and tests supply implementations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from eventlog.core.aggregate import Aggregate
from eventlog.views.view import View
from services.payments.domain.addressing import Address
from services.payments.domain.state.model import GroupPayments
from services.payments.ledger.journal import Entry, Head
from services.payments.ledger.posting_rules import Account
from services.payments.providers.port import Claim, Unaddressed

#: The payment decider's view: the payments of a group by its id.
PaymentsView: TypeAlias = View[Aggregate[GroupPayments]]


class Notifications(Protocol):
    """Verifies and parses the notifications of all providers."""

    def verify_and_parse(
        self, provider: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Claim | Unaddressed | None:
        """The group, empty if the provider does not name it, and the claimed outcome. None: not about a payment.

        `headers` are those of the request, repeated ones included. Raises BadSignature of chassis.outside.signatures,
        and NotUnderstood, OtherEnvironment and UnknownProvider of services.payments.providers.notifications.
        """
        ...

    async def address(self, provider: str, notification: Unaddressed, timeout_s: float) -> Claim | None:
        """The claim of a notification that names no order; the provider is asked for it. None if it is none of ours.

        Raises OtherEnvironment, LookUpFailed of services.payments.providers.notifications.
        """
        ...


class Recorded(Protocol):
    """Finds holds that earlier builds recorded under other ids; RecordedHolds implements it."""

    async def find(self, provider: str, group: str, order: str, hold: str, timeout_s: float) -> Address | None:
        """The earlier address of a hold with these reported ids, or None. Raises NotReady."""
        ...


class LedgerView(Protocol):
    """The ledger of the partitions that this process owns. Each method raises NotReady unless all it needs is here."""

    def balances(self, partitions: Collection[int] | None, /) -> Mapping[tuple[str, Account], tuple[int, int]]:
        """Debits and credits of some partitions or of all, in minor units by currency and account."""
        ...

    def heads(self, partitions: Collection[int] | None, /) -> Sequence[Head]:
        """The position of each of some partitions, or of all, by partition."""
        ...

    def of_group(self, group: str, after: tuple[int, int], limit: int) -> Sequence[Entry]:
        """At most `limit` entries of a group after (offset, number), in order."""
        ...

    def of_partition(self, partition: int, after: tuple[int, int], limit: int) -> Sequence[Entry]:
        """At most `limit` entries of a partition after (offset, number), in order."""
        ...
