"""The ledger as callers see it: balances with their totals, and pages of entries. Must never add up two currencies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from groupbuy.payments.v1 import ledger_pb2 as pb

from chassis.routing.partition_router import LocalRouter, Partitions
from chassis.routing.peer_calls import Context
from chassis.rpc.pagination import Key, Paging, page_size
from services.payments.api import errors as refusals
from services.payments.api.mapping import timestamp
from services.payments.api.names import is_id
from services.payments.api.ports import BooksView
from services.payments.ledger.journal import Account, Entry, Head

DEFAULT_SIZE = 100
MAX = 500
_MOST_MINOR = (1 << 63) - 1
#: Instead of a group: all of a partition.
ANY = "-"


class Books:
    """Answers about the ledger."""

    def __init__(self, view: BooksView, replicas: LocalRouter) -> None:
        self._view = view
        self._replicas = replicas

    async def balances(self, request: pb.GetBalancesRequest, context: Context) -> pb.GetBalancesResponse:
        """Balances of all partitions, by currency and account. Raises NotReady, and ApiError AMOUNT_OVERFLOW."""

        async def here(partitions: Partitions) -> pb.GetBalancesResponse:
            sums = self._view.balances(partitions).items()
            wanted = {name: both for name, both in sums if request.currency in ("", name[0])}
            return _answer(wanted, self._view.heads(partitions))

        parts = await self._replicas.scatter_gather("GetBalances", request, context, here)
        return parts[0] if len(parts) == 1 else _together(parts)

    async def entries(self, request: pb.ListEntriesRequest, context: Context) -> pb.ListEntriesResponse:
        """A page of entries. Raises NotReady, and ApiError INVALID_FIELDS."""
        group = request.parent.removeprefix("groups/")
        if group != ANY and not is_id(group):
            raise refusals.invalid_field("parent", "is not the name of a group")

        async def here() -> pb.ListEntriesResponse:
            return self._page(request, group)

        where = request.start.partition if group == ANY else group
        return await self._replicas.ask("ListEntries", where, request, context, here)

    def _page(self, request: pb.ListEntriesRequest, group: str) -> pb.ListEntriesResponse:
        size = page_size(request.page_size, default=DEFAULT_SIZE, most=MAX)
        start = request.start
        scope = f"entries/{group}/{start.partition}/{start.offset}/{start.number}"
        paging = Paging(scope, (int, int), size, request.page_token)
        # One more than the page tells whether there is a next one.
        if group == ANY:
            after = _pair(paging.after) if paging.after else (start.offset, start.number - 1)
            found = self._view.of_partition(start.partition, after, size + 1)
        else:
            found = self._view.of_group(group, _pair(paging.after) if paging.after else (-1, -1), size + 1)
        page = paging.cut(list(found), _key)
        return pb.ListEntriesResponse(entries=map(entry_message, page.items), next_page_token=page.next_token)


def _answer(sums: Mapping[tuple[str, Account], tuple[int, int]], heads: Iterable[Head]) -> pb.GetBalancesResponse:
    answer = pb.GetBalancesResponse()
    totals: dict[str, list[int]] = {}
    for (currency, account), (debits, credits_) in sorted(sums.items()):
        total = totals.setdefault(currency, [0, 0])
        total[0] += debits
        total[1] += credits_
        if max(*total) > _MOST_MINOR:
            raise refusals.amount_overflow(f"the turnover in {currency}")
        answer.balances.add(
            account=pb.LedgerAccount.Name(int(account)),  # type: ignore[arg-type] # numbered alike
            currency=currency,
            debits_minor=debits,
            credits_minor=credits_,
            balance_minor=debits - credits_,
        )
    for currency, (debits, credits_) in sorted(totals.items()):
        answer.totals.add(currency=currency, debits_minor=debits, credits_minor=credits_)
    for head in heads:
        answer.heads.add(partition=head.partition, next_offset=head.next_offset, entries=head.entries, hash=head.hash)
    return answer


def _together(parts: Iterable[pb.GetBalancesResponse]) -> pb.GetBalancesResponse:
    """The balances of several replicas, each of partitions of its own."""
    sums: dict[tuple[str, Account], tuple[int, int]] = {}
    heads: list[Head] = []
    for part in parts:
        for one in part.balances:
            name = one.currency, Account(one.account)
            debits, credits_ = sums.get(name, (0, 0))
            sums[name] = debits + one.debits_minor, credits_ + one.credits_minor
        heads += [Head(one.partition, one.next_offset, one.entries, one.hash) for one in part.heads]
    return _answer(sums, sorted(heads))


def entry_message(entry: Entry) -> pb.LedgerEntry:
    """An entry as the API shows it."""
    return pb.LedgerEntry(
        position=pb.LedgerPosition(partition=entry.partition, offset=entry.offset, number=entry.number),
        time=timestamp(entry.time_ms),
        group=f"groups/{entry.group}",
        version=entry.version,
        order=entry.order,
        hold=entry.hold,
        event=entry.event,
        postings=[
            pb.LedgerPosting(
                account=int(one.account),  # type: ignore[arg-type] # numbered alike
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
    """A token's sort key: checked by its kinds, so whole numbers."""
    return int(key[0]), int(key[1])
