"""GetBalances and ListEntries: balances by currency, and pages without missing or duplicate entries.

Method: the real ledger store in a directory, behind the servicer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from groupbuy.payments.v1 import ledger_pb2 as pb

from chassis.routing.partition_router import LocalRouter, Partitions
from chassis.rpc.errors import ApiError
from eventlog.core.errors import NotReady
from eventlog.state.database import Database
from services.payments.api.ledger_queries import LedgerQueries
from services.payments.ledger.journal import Entry, Head
from services.payments.ledger.posting_rules import Account
from services.payments.ledger.store import STAMP, PartitionLedger
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.unit.payments_api.service import Decider, servicer

ORDERS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(4)]
OTHER = "0b6a0c2e-0f54-5a4e-9a59-3f3a5f1f7a11"


class View:
    """The ledger of one partition, as the ledger processor shows it."""

    def __init__(self, ledger: PartitionLedger) -> None:
        self.ledger = ledger
        self.ready = True
        self.more: dict[tuple[str, Account], tuple[int, int]] = {}

    def _ready(self) -> PartitionLedger:
        if not self.ready:
            raise NotReady("the ledger is behind")
        return self.ledger

    def balances(self, partitions: object = None, /) -> Mapping[tuple[str, Account], tuple[int, int]]:
        return dict(self._ready().balances) | self.more

    def heads(self, partitions: Partitions = None, /) -> Sequence[Head]:
        return [self._ready().head._replace(partition=one) for one in partitions or [0]]

    def of_group(self, group: str, after: tuple[int, int], limit: int) -> Sequence[Entry]:
        return self._ready().of_group(group, after, limit)

    def of_partition(self, partition: int, after: tuple[int, int], limit: int) -> Sequence[Entry]:
        return self._ready().of_partition(after, limit)


@pytest.fixture
async def view(tmp_path: Path) -> AsyncIterator[View]:
    decider = Decider()
    decider.charge(ORDERS[0])
    decider.charge(ORDERS[1], 12_345, "KWD")
    decider.charge(ORDERS[2], 1_500, "JPY")
    ledger = PartitionLedger(0, Database(tmp_path / "0", STAMP), "payments")
    for offset, value in enumerate(decider.log):
        ledger.take(SimpleNamespace(offset=offset, key=GROUP.encode(), value=value))
    await ledger.persist()
    yield View(ledger)
    ledger.close()


async def balances(view: View, currency: str = "") -> pb.GetBalancesResponse:
    return await servicer(Decider(), ledger=view).GetBalances(pb.GetBalancesRequest(currency=currency), call())


async def entries(
    view: View, size: int = 0, token: str = "", parent: str = GROUP, **start: int
) -> pb.ListEntriesResponse:
    request = pb.ListEntriesRequest(parent=f"groups/{parent}", page_size=size, page_token=token)
    if start:
        request.start.CopyFrom(pb.LedgerPosition(**start))
    return await servicer(Decider(), ledger=view).ListEntries(request, call())


def gist(answer: pb.GetBalancesResponse) -> dict[tuple[str, str], int]:
    return {
        (one.currency, pb.LedgerAccount.Name(one.account).removeprefix("LEDGER_ACCOUNT_")): one.balance_minor
        for one in answer.balances
        if one.balance_minor
    }


async def test_each_currency_has_its_own_balances_and_totals_that_balance(view: View) -> None:
    answer = await balances(view)
    assert gist(answer) == {
        ("CNY", "CUSTOMER"): -100,
        ("CNY", "MERCHANT"): 100,
        ("JPY", "CUSTOMER"): -1_500,
        ("JPY", "MERCHANT"): 1_500,
        ("KWD", "CUSTOMER"): -12_345,
        ("KWD", "MERCHANT"): 12_345,
    }
    assert [total.currency for total in answer.totals] == ["CNY", "JPY", "KWD"]
    assert all(total.debits_minor == total.credits_minor for total in answer.totals)
    (head,) = answer.heads
    assert (head.partition, head.next_offset, len(head.hash)) == (0, len(view.ledger.of_partition((-1, -1), 99)), 32)


class Halves(LocalRouter):
    """Two replicas, each with one partition, both of the same content."""

    async def scatter_gather(
        self, method: str, request: Any, context: Any, here: Callable[[Partitions], Awaitable[Any]]
    ) -> list[Any]:
        assert method == "GetBalances"
        return [await here([1]), await here([0])]


async def test_balances_of_several_replicas_are_merged_with_each_partition_once(view: View) -> None:
    ledger = LedgerQueries(view, Halves())
    answer = await ledger.balances(pb.GetBalancesRequest(), call())
    once = await balances(view)
    assert gist(answer) == {name: 2 * amount for name, amount in gist(once).items()}
    assert [total.debits_minor for total in answer.totals] == [2 * total.debits_minor for total in once.totals]
    assert [head.partition for head in answer.heads] == [0, 1]
    view.more = {("CNY", Account.CUSTOMER): (1 << 62, 1 << 62)}
    with pytest.raises(ApiError, match="does not fit"):
        await ledger.balances(pb.GetBalancesRequest(), call())


async def test_balances_can_be_filtered_by_currency(view: View) -> None:
    answer = await balances(view, "KWD")
    assert {one.currency for one in answer.balances} == {"KWD"}
    assert [total.currency for total in answer.totals] == ["KWD"]


async def test_a_turnover_that_does_not_fit_is_refused_and_no_other_currency_suffers(view: View) -> None:
    most = (1 << 63) - 1
    view.more = {("CNY", Account.CUSTOMER): (most, most), ("CNY", Account.HOLDS): (1, 1)}
    with pytest.raises(ApiError) as refused:
        await balances(view)
    assert "the turnover in CNY" in refused.value.message
    assert refused.value.code == grpc.StatusCode.INTERNAL
    assert gist(await balances(view, "JPY"))["JPY", "MERCHANT"] == 1_500


async def test_entries_come_in_the_order_of_the_log_and_in_pages(view: View) -> None:
    whole = await entries(view)
    moved = [(entry.event, entry.order) for entry in whole.entries if entry.postings]
    named = [f"groups/{GROUP}/orders/{order}" for order in ORDERS[:3]]
    assert moved == [(event, order) for order in named for event in ("HoldAuthorised", "Captured")]
    assert whole.next_page_token == ""
    for size in (1, 2, 5, 100):
        seen: list[pb.LedgerEntry] = []
        token = ""
        while True:
            page = await entries(view, size, token)
            assert len(page.entries) <= size
            seen += page.entries
            token = page.next_page_token
            if not token:
                break
        assert seen == list(whole.entries)


async def test_a_partition_can_be_read_from_any_position(view: View) -> None:
    whole = (await entries(view)).entries
    for at, entry in enumerate(whole):
        position = entry.position
        answer = await entries(
            view, parent="-", partition=position.partition, offset=position.offset, number=position.number
        )
        assert list(answer.entries) == list(whole[at:])


async def test_a_group_without_money_has_no_entries(view: View) -> None:
    assert list((await entries(view, parent=OTHER)).entries) == []


@pytest.mark.parametrize("parent", ["nothing", GROUP.upper()])
async def test_a_parent_that_is_not_a_group_is_refused(view: View, parent: str) -> None:
    with pytest.raises(ApiError, match="is not the name of a group"):
        await entries(view, parent=parent)


async def test_a_token_of_another_list_is_refused(view: View) -> None:
    token = (await entries(view, 1)).next_page_token
    with pytest.raises(ApiError):
        await entries(view, 1, token, OTHER)


async def test_a_ledger_that_is_behind_is_not_ready(view: View) -> None:
    view.ready = False
    with pytest.raises(NotReady):
        await balances(view)
    with pytest.raises(NotReady):
        await entries(view)
