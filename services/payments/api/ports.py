"""What the payments API needs of the rest of the process. The wiring gives it; tests give their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from eventlog.core.aggregate import Aggregate
from eventlog.views.view import View
from services.payments.domain.model import GroupPayments
from services.payments.ledger.journal import Account, Entry, Head

#: The payment decider's table.
PursesView: TypeAlias = View[Aggregate[GroupPayments]]


class Notifications(Protocol):
    """Understands what a provider sent by itself."""

    def verify_and_parse(
        self, provider: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> tuple[str, ProviderOutcome] | None:
        """The group, empty where the provider does not name it, and what is claimed. None: of no concern to a payment.
        `headers` as they came, each as often as it came.

        Raises BadSignature, NotUnderstood and UnknownProvider of services/payments/providers/notifications.py.
        """
        ...


class BooksView(Protocol):
    """The ledger of the partitions that are here. Each raises NotReady while a partition of it is not ready."""

    def balances(self, partitions: Collection[int] | None, /) -> Mapping[tuple[str, Account], tuple[int, int]]:
        """Debits and credits in minor units, by currency and account, of some partitions or of all."""
        ...

    def heads(self, partitions: Collection[int] | None, /) -> Sequence[Head]:
        """How far each of some partitions, or of all, has come, by partition."""
        ...

    def of_group(self, group: str, after: tuple[int, int], most: int) -> Sequence[Entry]:
        """Entries of a group after an offset and number, in order."""
        ...

    def of_partition(self, partition: int, after: tuple[int, int], most: int) -> Sequence[Entry]:
        """Entries of a partition after an offset and number, in order."""
        ...
