"""Finds the payment under which an earlier build recorded a hold that nobody asked for.

Earlier builds derived other ids for such a hold. A notification about it has to reach the payment that has its money;
under the ids of this build the money would be booked, and returned, a second time.
"""

from __future__ import annotations

import time

from groupbuy.payments.v1.ledger_pb2 import ListEntriesRequest

from services.payments.api.ledger_queries import PAGE_SIZE, LedgerQueries
from services.payments.domain.addressing import Address, earlier_addresses


class RecordedHolds:
    """Looks holds up in the ledger, which every build has booked them in, on every replica."""

    def __init__(self, ledger: LedgerQueries) -> None:
        self._ledger = ledger

    async def find(self, provider: str, group: str, order: str, hold: str, timeout_s: float) -> Address | None:
        """The earlier address of a hold, or None: no earlier build has booked money of it.

        `group` and `order` are those that the provider reported. Raises NotReady if a part of the ledger is not
        available in time.
        """
        until = _Deadline(timeout_s)
        for address in earlier_addresses(provider, group, order, hold):
            if await self._has_booked(address, hold, until):
                return address
        return None

    async def _has_booked(self, address: Address, hold: str, until: _Deadline) -> bool:
        order = f"groups/{address.group}/orders/{address.order}"
        request = ListEntriesRequest(parent=f"groups/{address.group}", page_size=PAGE_SIZE.limit)
        while True:
            page = await self._ledger.entries(request, until)
            if any(entry.hold == hold and entry.order == order for entry in page.entries):
                return True
            if not page.next_page_token:
                return False
            request.page_token = page.next_page_token


class _Deadline:
    """The context of a query that no call made. A notification over HTTP has no gRPC context."""

    def __init__(self, timeout_s: float) -> None:
        self._until = time.monotonic() + timeout_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """No metadata: another replica may answer."""
        return ()

    def time_remaining(self) -> float:
        """Seconds until the deadline."""
        return self._until - time.monotonic()
