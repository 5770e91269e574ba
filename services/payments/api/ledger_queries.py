"""GetBalances and ListEntries: the ledger's balances with totals by currency, and pages of its entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from groupbuy.payments.v1 import ledger_pb2 as pb

from chassis.routing.partition_router import LocalRouter, Partitions
from chassis.routing.peer_calls import Context
from chassis.rpc.pagination import Key, PageRequest, PageSize
from chassis.rpc.validation import invalid_field
from services.payments.api import errors
from services.payments.api.mapping import timestamp
from services.payments.api.ports import LedgerView
from services.payments.domain.addressing import is_id
from services.payments.domain.output.events import MAX_MINOR
from services.payments.ledger.journal import Entry, Head
from services.payments.ledger.posting_rules import Account

PAGE_SIZE = PageSize(default=100, limit=500)
#: In place of a group id: all groups of a partition.
ANY = "-"


class LedgerQueries:
    """Handles GetBalances and ListEntries."""

    def __init__(self, view: LedgerView, router: LocalRouter) -> None:
        self._view = view
        self._router = router

    async def balances(self, request: pb.GetBalancesRequest, context: Context) -> pb.GetBalancesResponse:
        """Balances of all partitions, by currency and account. Raises NotReady, and ApiError AMOUNT_OVERFLOW."""

        async def here(partitions: Partitions) -> pb.GetBalancesResponse:
            sums = self._view.balances(partitions).items()
            wanted = {name: both for name, both in sums if request.currency in ("", name[0])}
            return _response(wanted, self._view.heads(partitions))

        parts = await self._router.scatter_gather("GetBalances", request, context, here)
        return parts[0] if len(parts) == 1 else _merged(parts)

    async def entries(self, request: pb.ListEntriesRequest, context: Context) -> pb.ListEntriesResponse:
        """A page of entries. Raises NotReady, and ApiError INVALID_FIELDS."""
        group = request.parent.removeprefix("groups/")
        if group != ANY and not is_id(group):
            raise invalid_field("parent", "is not the name of a group")

        async def here() -> pb.ListEntriesResponse:
            return self._page(request, group)

        where = request.start.partition if group == ANY else group
        return await self._router.call_owner("ListEntries", where, request, context, here)

    def _page(self, request: pb.ListEntriesRequest, group: str) -> pb.ListEntriesResponse:
        size = PAGE_SIZE.of(request.page_size)
        start = request.start
        scope = f"entries/{group}/{start.partition}/{start.offset}/{start.number}"
        paging = PageRequest(scope, (int, int), size, request.page_token)
        # One entry more than the page shows whether there is a next page.
        if group == ANY:
            after = _pair(paging.after) if paging.after else (start.offset, start.number - 1)
            found = self._view.of_partition(start.partition, after, size + 1)
        else:
            found = self._view.of_group(group, _pair(paging.after) if paging.after else (-1, -1), size + 1)
        page = paging.page_of_sorted(list(found), _key)
        return pb.ListEntriesResponse(entries=map(entry_message, page.items), next_page_token=page.next_token)


def _response(sums: Mapping[tuple[str, Account], tuple[int, int]], heads: Iterable[Head]) -> pb.GetBalancesResponse:
    response = pb.GetBalancesResponse()
    totals: dict[str, list[int]] = {}
    for (currency, account), (debits, credits_) in sorted(sums.items()):
        total = totals.setdefault(currency, [0, 0])
        total[0] += debits
        total[1] += credits_
        if max(*total) > MAX_MINOR:
            raise errors.amount_overflow(f"the turnover in {currency}")
        response.balances.add(
            account=pb.LedgerAccount.Name(int(account)),  # type: ignore[arg-type] # same numbers
            currency=currency,
            debits_minor=debits,
            credits_minor=credits_,
            balance_minor=debits - credits_,
        )
    for currency, (debits, credits_) in sorted(totals.items()):
        response.totals.add(currency=currency, debits_minor=debits, credits_minor=credits_)
    for head in heads:
        response.heads.add(partition=head.partition, next_offset=head.next_offset, entries=head.entries, hash=head.hash)
    return response


def _merged(parts: Iterable[pb.GetBalancesResponse]) -> pb.GetBalancesResponse:
    """The balances of several replicas, whose partitions are disjoint."""
    sums: dict[tuple[str, Account], tuple[int, int]] = {}
    heads: list[Head] = []
    for part in parts:
        for one in part.balances:
            name = one.currency, Account(one.account)
            debits, credits_ = sums.get(name, (0, 0))
            sums[name] = debits + one.debits_minor, credits_ + one.credits_minor
        heads += [Head(one.partition, one.next_offset, one.entries, one.hash) for one in part.heads]
    return _response(sums, sorted(heads))


def entry_message(entry: Entry) -> pb.LedgerEntry:
    """An entry as a message."""
    return pb.LedgerEntry(
        position=pb.LedgerPosition(partition=entry.partition, offset=entry.offset, number=entry.number),
        time=timestamp(entry.time_ms),
        group=f"groups/{entry.group}",
        version=entry.version,
        order=f"groups/{entry.group}/orders/{entry.order}" if entry.order else "",
        hold=entry.hold,
        event=entry.event,
        postings=[
            pb.LedgerPosting(
                account=int(one.account),  # type: ignore[arg-type] # same numbers
                currency=one.currency,
                amount_minor=one.amount,
            )
            for one in entry.postings
        ],
        decision_sha256=entry.decision_sha256,
        hash=entry.hash,
    )


def _key(entry: Entry) -> Key:
    return (entry.offset, entry.number)


def _pair(key: Key) -> tuple[int, int]:
    """The sort key of a page token, which PageRequest has checked to be two integers."""
    return int(key[0]), int(key[1])
