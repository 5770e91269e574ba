"""The ledger of a running system from outside: the reconciliation, the roots, and the API's balances and entries agree.

Each test ends with the audit (see conftest).
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from groupbuy.payments.v1 import ledger_pb2 as ledger
from groupbuy.payments.v1 import operator_pb2 as operator
from groupbuy.payments.v1.operator_pb2_grpc import OperatorServiceStub
from groupbuy.simprovider.v1.simprovider_pb2 import AuthoriseRequest

from devstack.product import PROVIDER_HTTP, WEBHOOKS
from ops.main import main
from tests.integration.shop import CALL_S, Shop, retried, until
from tests.waiting import wait_for_async


class Ops:
    """The command line on a shop's system."""

    def __init__(self, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
        self._shop = shop
        self._capsys = capsys
        self.output = ""

    def __call__(self, *args: str, provider: bool = False) -> tuple[int, dict[str, object]]:
        """Runs a command. Returns its exit code and the figures of the last line."""
        stack = self._shop.stack
        known = ["--kafka", stack.kafka, *(["--provider", stack.endpoints["provider"]] if provider else [])]
        if "--feed" in args:
            known += ["--payments", stack.endpoints["payments"]]
        code = main([*args, *known])
        self.output = self._capsys.readouterr().out
        return code, json.loads(self.output.splitlines()[-1])


@pytest.fixture
def ops(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Ops:
    return Ops(shop, capsys)


def by_currency(answer: ledger.GetBalancesResponse) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for one in answer.balances:
        name = ledger.LedgerAccount.Name(one.account).removeprefix("LEDGER_ACCOUNT_").lower()
        found.setdefault(one.currency, {})[name] = one.balance_minor
    return found


async def fetched(url: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.read()


async def test_the_statement_as_a_file_agrees_with_the_ledger(shop: Shop, ops: Ops, tmp_path: Path) -> None:
    orders = shop.full_group(shop.campaign(capacity=3, tiers=((3, 8_900),)), 3)
    shop.wait_all(orders, "SETTLED")
    _, content = await fetched(f"http://{shop.stack.endpoints[PROVIDER_HTTP]}/statement.csv")
    file = tmp_path / "statement.csv"
    file.write_bytes(content)
    code, figures = await asyncio.to_thread(ops, "reconcile", "--statement", str(file), "--wait", "0")
    assert (code, figures["books_equal"], figures["differs"]) == (0, True, 0)
    assert int(str(figures["matched"])) >= 3


def test_funds_that_only_the_provider_has_are_reported_claimed_and_released(shop: Shop, ops: Ops) -> None:
    group, order = str(uuid4()), str(uuid4())
    request = AuthoriseRequest(
        key=f"{order}:authorise:1", order=order, group=group, payment_method="card_ok", amount_minor=777, currency="CNY"
    )
    hold = shop.provider.Authorise(request, timeout=CALL_S).hold
    code, figures = ops("reconcile", "--wait", "1", provider=True)
    assert (code, figures["theirs_only"], figures["books_equal"], figures["fed"]) == (1, 1, False, 0)
    output = "".join(ops.output.split())
    assert hold in output.replace("│", "")
    code, figures = ops("reconcile", "--wait", "1", "--feed", provider=True)
    assert (code, figures["fed"]) == (1, 1)
    # The rules return unexpected funds after an hour, or when an operator approves it.
    operators: Any = OperatorServiceStub(shop.stack.payments)
    approval = operator.ApproveReturnRequest(
        name=f"groups/{group}/orders/{order}/payment", request_id=str(uuid4()), reason="nobody ordered it", hold=hold
    )
    retried(lambda: operators.ApproveReturn(approval, timeout=CALL_S))
    code, figures = ops("reconcile", "--wait", "20", provider=True)
    assert (code, figures["theirs_only"], figures["books_equal"]) == (0, 0, True)
    (entry,) = [one for one in shop.statement() if one.hold == hold]
    assert (entry.open_minor, entry.released_minor) == (0, 777)


def test_the_api_and_the_command_line_have_the_same_balances(shop: Shop, ops: Ops) -> None:
    campaign = shop.campaign(capacity=2, tiers=((2, 8_900),), currency="JPY")
    orders = shop.full_group(campaign, 2, currency="JPY")
    shop.wait_all(orders, "SETTLED")
    code, figures = ops("ledger", "balances")
    assert (code, figures["balanced"]) == (0, True)

    def balances() -> ledger.GetBalancesResponse:
        return retried(lambda: shop.payments.GetBalances(ledger.GetBalancesRequest(), timeout=CALL_S))

    # The service's ledger follows the log and may be a moment behind.
    until(lambda: by_currency(balances()) == figures["balances_minor"])
    answer = balances()
    assert {total.debits_minor - total.credits_minor for total in answer.totals} == {0}
    assert by_currency(answer)["JPY"]["merchant"] >= 2 * 8_900

    entries = retried(
        lambda: shop.payments.ListEntries(ledger.ListEntriesRequest(parent=orders[0].group), timeout=CALL_S)
    ).entries
    moved = [entry.event for entry in entries if entry.postings]
    assert moved == ["HoldAuthorised", "HoldAuthorised", "Captured", "Captured"]
    assert all(sum(posting.amount_minor for posting in entry.postings) == 0 for entry in entries)


def test_exported_roots_stay_valid_for_later_logs(shop: Shop, ops: Ops, tmp_path: Path) -> None:
    shop.wait_all(shop.full_group(shop.campaign(capacity=2, tiers=((2, 8_900),)), 2), "SETTLED")
    file = tmp_path / "roots.json"
    code, figures = ops("ledger", "roots", "--out", str(file))
    assert code == 0
    assert int(str(figures["entries"])) > 0
    shop.wait_all(shop.full_group(shop.campaign(capacity=2, tiers=((2, 8_900),)), 2), "SETTLED")
    code, figures = ops("audit", "--roots", str(file), "--without-provider")
    assert (code, figures["violations"]) == (0, 0)
    content = json.loads(file.read_text())
    content["roots"][0]["root"] = "0" * 64
    file.write_text(json.dumps(content))
    code, figures = ops("audit", "--roots", str(file), "--without-provider")
    assert (code, figures["violations"]) == (1, 1)
    assert "differs from the exported one" in " ".join(ops.output.split())


async def test_a_provider_outage_shows_in_health_and_everything_settles_after_it(shop: Shop) -> None:
    stack, url = shop.stack.stack, f"http://{shop.stack.endpoints[WEBHOOKS]}/health"
    campaign = shop.campaign(capacity=40, tiers=((40, 8_900),), window_s=60, hold_s=50)
    leader = shop.place(campaign)
    stack.kill("provider", restart=False)
    friends = shop.place_all([shop.request(campaign, leader.group) for _ in range(39)])
    assert len({friend.name for friend in friends}) == 39

    async def is_left_alone() -> bool:
        status, body = await fetched(url)
        return status == 503 and json.loads(body)["providers"]["simulated"] == "NOT_SERVING"

    async def is_requested() -> bool:
        return (await fetched(url))[0] == 200

    try:
        await wait_for_async(is_left_alone, seconds=20)
    finally:
        stack.start_service("provider")
    shop.wait_all([leader, *friends], "SETTLED")
    await wait_for_async(is_requested, seconds=20)
