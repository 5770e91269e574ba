"""`make day`: a day in the life of a shop on a real broker, with what providers, banks and people do by themselves.

An evening of 2,000 orders is played while refunds are refused, fail and are reversed. Another deployment trades on the
same account. People refund, capture and cancel 30 payments in the provider's dashboard, customers dispute 20 charges,
and a settlement is stuck while the provider fails every call. Two operators act on the issues that the payments service
lists. In the end the balance is paid out, and fees and payouts are fed from the provider's statement.

The last line is one JSON object:

- `orders`: orders that were placed
- `owed_without_alarm`: sums owed to customers that nobody pursues and no alarm tells of, at any time of the day
- `unexplained`: holds whose money at the provider is not the one in our books
- `books_equal`: balance, fees and payouts of the ledger are the provider's, and the audit finds no violation
- `repairs_recorded`: each accepted repair is in the log once, with its operator and its reason
- `life_recorded`: the log has each dispute and each operation of the dashboard, once

The other figures show that the day had all of it. Exits with 1 if a claim fails. KEEP=1 keeps the directory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import grpc
from prometheus_client.parser import text_string_to_metric_families

from chassis.telemetry.metrics.metrics_of_services import WEBHOOKS
from devstack.errors import DevstackError
from devstack.product import PROVIDER
from devstack.stack import Stack
from ops.audit.run import NotQuiet, audit, wait_quiet
from ops.statements.collected import Statement
from tests import evening
from tests.day.books import Books, dispute_fee, life_recorded, read_books, repairs_recorded
from tests.day.errors import DayFailed
from tests.day.operator import Operators
from tests.day.provider import OURS, REFUNDS, Provider
from tests.day.settlement import StuckSettlement
from tests.day.support import payouts_of, refund_some, statement_findings

ORDERS, DISPUTES, BY_HAND, ELSEWHERE, REFUNDED = 2_000, 20, 30, 40, 120
PARTITIONS = 4
QUIET_S = 240.0
Say = Callable[[str], None]


class Day:
    """One day on one stack."""

    def __init__(self, stack: Stack, say: Say, seed: int) -> None:
        self._stack = stack
        self._say = say
        self._random = Random(seed)
        self._seed = seed

    async def run(self, orders: int) -> dict[str, Any]:
        """The whole day. Returns the figures."""
        at = self._stack.endpoints
        async with (
            grpc.aio.insecure_channel(at["orders"]) as shop,
            grpc.aio.insecure_channel(at["groups"]) as merchant,
            grpc.aio.insecure_channel(at["payments"]) as payments,
            grpc.aio.insecure_channel(at[PROVIDER]) as simulated,
        ):
            self._provider = Provider(simulated, self._random)
            self._operators = Operators(payments)
            await self._provider.behave(**REFUNDS)
            attending = asyncio.create_task(self._operators.attend())
            try:
                played = await self._evening(shop, merchant, orders)
                await self._step("settlements", self._settled())
                await self._step("refunds by support", refund_some(payments, await self._kept(), REFUNDED))
                await self._step("disputes", self._provider.dispute(DISPUTES))
                await self._step("dashboard refunds", self._provider.operate("refund", BY_HAND - self._acted()))
                stuck = StuckSettlement(shop, merchant, self._operators, self._provider)
                await self._step("a stuck settlement", stuck.run())
                await self._provider.decide_disputes(won=7, lost=6)
                await self._provider.behave()
                await self._quiet()
            finally:
                attending.cancel()
                (ended,) = await asyncio.gather(attending, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended
            await self._close_the_books(payments)
            return await self._figures(played)

    async def _evening(self, shop: Any, merchant: Any, orders: int) -> evening.Played:
        loop = asyncio.get_running_loop()

        async def middle() -> None:
            await self._provider.trade_elsewhere(ELSEWHERE)
            await self._provider.operate("capture", BY_HAND // 3)
            await self._provider.operate("cancel", BY_HAND // 3)

        def in_a_thread() -> None:
            asyncio.run_coroutine_threadsafe(middle(), loop).result(120)

        self._say(f"an evening of {orders:,} orders")
        return await evening.play(shop, merchant, orders, self._seed, in_a_thread)

    async def _step(self, name: str, work: Awaitable[Any]) -> None:
        began = time.monotonic()
        result = await work
        self._say(f"{name}: {result if result is not None else 'done'} after {time.monotonic() - began:.1f} s")

    async def _settled(self) -> None:
        """Waits until no hold is open, so that all groups of the evening have settled. Raises TimeoutError."""
        until = time.monotonic() + QUIET_S
        while open_ := [one.hold for one in await self._provider.statement() if one.open_minor]:
            if time.monotonic() > until:
                raise TimeoutError(f"{len(open_)} holds are still open, for instance {open_[0]}")
            await asyncio.sleep(1.0)

    def _acted(self) -> int:
        return sum(map(len, self._provider.by_hand.values()))

    async def _kept(self) -> list[Any]:
        return [one for one in await self._provider.statement() if one.captured_minor > one.refunded_minor]

    async def _quiet(self) -> None:
        """Waits until nothing is pending. The operators go on meanwhile."""
        self._say("waiting until nothing is pending")
        await wait_quiet(self._stack.kafka, deadline_s=QUIET_S)

    async def _close_the_books(self, payments: Any) -> None:
        books = await read_books(self._stack.kafka)
        kept = sorted(hold for hold, (_, order) in books.places.items() if order)[:1]
        for hold in kept:
            group, order = books.places[hold]
            currency = next(one.currency for one in await self._provider.statement() if one.hold == hold)
            await self._operators.adjust(f"groups/{group}/orders/{order}/payment", currency, 5)
        while waiting := await self._operators.issues(5):
            for issue in waiting:
                await self._operators.act(issue)
        self._say(f"{await self._provider.pay_out()} payouts")
        findings = statement_findings(await self._provider.balance(), books.places, dispute_fee)
        for payment, outcome in findings:
            await self._operators.feed(payment, outcome)
        self._say(f"{len(findings)} fees and shares of payouts are fed")
        await wait_quiet(self._stack.kafka, deadline_s=QUIET_S)

    async def _figures(self, played: evening.Played) -> dict[str, Any]:
        statement = await self._provider.statement()
        balance = await self._provider.balance()
        books = await read_books(self._stack.kafka)
        entries = {one.hold: one for one in statement}
        given = Statement(money_only=False, entries=entries, payouts=payouts_of(balance, entries))
        report = await audit(self._stack.kafka, None, settled=True, acknowledged=played.acknowledged, given=given)
        owed = sorted(books.unattended)
        unexplained = books.unexplained(statement)
        unequal = books.unequal(statement, balance)
        unrecorded = repairs_recorded(self._operators.accepted, books)
        unnoticed = life_recorded(books, self._provider.disputes, self._provider.by_hand)
        self._report(books, unexplained, unequal, unrecorded, unnoticed, owed)
        self._say(f"refused commands: {dict(self._operators.refused)}")
        for violation in report.findings.violations[:20]:
            self._say(f"violation: {violation}")
        return {
            "orders": played.orders,
            "owed_without_alarm": len(owed),
            "unexplained": len(unexplained),
            "books_equal": not unequal and report.clean and not books.faults,
            "repairs_recorded": not unrecorded and bool(self._operators.accepted),
            "repairs": dict(Counter(action for _, action in self._operators.accepted.values())),
            "life_recorded": not unnoticed,
            "violations": report.findings.violation_count,
            "open_alarms": len(report.findings.open_alarms),
            "disputes": len(self._provider.disputes),
            "by_hand": {kind: len(holds) for kind, holds in self._provider.by_hand.items()},
            "foreign_holds": len(self._provider.foreign),
            "foreign_notifications": foreign_notifications(self._stack),
            "foreign_in_our_books": sum(hold in books.holds for hold in self._provider.foreign),
            "events": {kind: books.events[kind] for kind in LIFE if books.events[kind]},
            "issues_seen": dict(self._operators.seen),
        }

    def _report(self, books: Books, *findings: list[str]) -> None:
        for one in (line for found in (*findings, books.faults) for line in found[:20]):
            self._say(f"  {one}")


#: Events that only such a day has.
LIFE = (
    "refund_declined",
    "money_owed",
    "refund_reversed",
    "returned_outside",
    "dispute_opened",
    "dispute_won",
    "dispute_lost",
    "external_operation_recorded",
    "suspense_recorded",
    "suspense_approved",
    "suspense_kept",
    "fee_charged",
    "paid_out",
    "ledger_adjusted",
    "operator_acted",
    "faulted",
)
#: Repairs that the operators of the day make.
REPAIRS = frozenset(
    {
        "retry_call",
        "release_member",
        "fail_member",
        "mark_returned_outside",
        "approve_return",
        "keep_suspense",
        "adjust_ledger",
        "approve_adjustment",
    }
)


def foreign_notifications(stack: Stack) -> int:
    """The notifications about payments of another deployment that the payments service has ignored."""
    with urllib.request.urlopen(f"http://{stack.endpoints['payments_metrics']}/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = (one for family in families for one in family.samples if one.name == WEBHOOKS.name)
    return int(sum(one.value for one in samples if one.labels["result"] == "foreign"))


def good(found: dict[str, Any], orders: int) -> bool:
    """Whether every claim holds, and the day had what it is about."""
    events = found["events"]
    lived = all(events.get(kind) for kind in LIFE if kind != "faulted") and not events.get("faulted")
    return bool(
        found["orders"] == orders
        and not found["owed_without_alarm"]
        and not found["unexplained"]
        and found["books_equal"]
        and found["repairs_recorded"]
        and found["repairs"].keys() >= REPAIRS
        and found["life_recorded"]
        and found["disputes"] == DISPUTES
        and sum(found["by_hand"].values()) == BY_HAND
        and found["foreign_holds"] == ELSEWHERE
        # Of a hold and of its capture, each once at least.
        and found["foreign_notifications"] >= 2 * ELSEWHERE
        and not found["foreign_in_our_books"]
        and lived
    )


def main() -> int:
    """Runs the day. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=ORDERS, help="orders of the evening")
    parser.add_argument("--seed", type=int, default=7, help="seed of the evening")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    directory = Path(tempfile.mkdtemp(prefix="groupbuy-day-"))
    environment = {"payments": {"GROUPBUY_PAYMENTS_ENVIRONMENT": OURS}}
    stack = Stack(directory / "run", partitions=PARTITIONS, environment=environment)
    try:
        with stack:
            found = asyncio.run(Day(stack, say, given.seed).run(given.orders))
            failure = str(stack.failure() or "")
    except (DayFailed, DevstackError, evening.EveningFailed, NotQuiet, TimeoutError, grpc.aio.AioRpcError) as error:
        say(str(error))
        print(json.dumps({"failed": str(error).splitlines()[0]}))
        return 1
    finally:
        if os.environ.get("KEEP"):
            say(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps({**found, "failure": failure}))
    return 0 if good(found, given.orders) and not failure else 1


if __name__ == "__main__":
    sys.exit(main())
