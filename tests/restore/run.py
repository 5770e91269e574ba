"""`make restore-test`: rehearses the restore of docs/operating/backup.md on two brokers.

Two evenings are played on a system with a slow provider. `topics copy` runs while services write. In the middle of the
second one all services are killed, the last records are copied, and the first broker is stopped for good. The copy is
checked, opened, and takes over the address; the services start on it with their old state or without any, and the
evening goes on. In the end the audit has to be clean, the provider must have executed no call twice, and the log must
have no funds that it does not expect, which would be refunded.

The last line is one JSON object. Exits with 1 if a claim fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from devstack.errors import DevstackError
from devstack.kafka.broker import Broker
from devstack.product import PROVIDER, SERVICES
from devstack.stack import Stack
from groupbuy_settlement import command
from ops.audit.run import audit, wait_quiet
from ops.log.reader import Reader
from ops.statements.simulated import statement
from shared_kernel.topics import PAYMENT_LOG
from tests import evening

ORDERS = 200
PARTITIONS = 8
QUIET_S = 150.0
#: Longest time of one command.
COMMAND_S = 300.0
#: Slow enough that calls are in flight when the services are killed.
PROVIDER_SETTINGS = {"GROUPBUY_SIMPROVIDER_LATENCY_MIN_MS": "200", "GROUPBUY_SIMPROVIDER_LATENCY_MAX_MS": "1500"}
#: Loses its state. The others keep theirs, which is that of another cluster.
STATELESS = "orders"
SET_ASIDE = "set aside"
Say = Callable[[str], None]


class CommandFailed(Exception):
    """A command of the rehearsal did not end as it should; the message has the end of its output."""


def ops(*arguments: str) -> dict[str, Any]:
    """Runs a command of `groupbuy-ops`. Returns its exit code, its last line of JSON, and its seconds."""
    began = time.monotonic()
    done = subprocess.run(
        command("ops.main", *arguments, "--json"), capture_output=True, text=True, check=False, timeout=COMMAND_S
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise CommandFailed(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-1500:]}")
    return {**json.loads(lines[-1]), "code": done.returncode, "took_s": round(time.monotonic() - began, 1)}


class Rehearsal:
    """One system, the broker that it loses, and the one that it goes on with."""

    def __init__(self, directory: Path, say: Say) -> None:
        self._say = say
        self._directory = directory
        self._roots = directory / "roots.jsonl"
        self.stack = Stack(directory / "run", partitions=PARTITIONS, environment={PROVIDER: PROVIDER_SETTINGS})
        self.standby = Broker()
        self.restored = Broker()
        self.found: dict[str, Any] = {}
        self.statement_before: list[StatementEntry] = []

    def run(self, orders: int) -> dict[str, Any]:
        """The whole rehearsal. Returns the figures."""
        self.standby.start(self._directory / "second")
        try:
            with self.stack:
                first = asyncio.run(self._play(orders // 2, 5, self._copy_live))
                second = asyncio.run(self._play(orders // 2, 6, self._lose_the_broker))
                self._say("the evenings are over")
                asyncio.run(wait_quiet(self.stack.kafka, deadline_s=QUIET_S))
                return {**self.found, **self._checked([first, second])}
        finally:
            self.standby.release()
            self.restored.release()

    async def _play(self, orders: int, seed: int, in_the_middle: Callable[[], None]) -> evening.Played:
        endpoints = self.stack.endpoints
        async with (
            grpc.aio.insecure_channel(endpoints["orders"]) as shop,
            grpc.aio.insecure_channel(endpoints["groups"]) as merchant,
        ):
            return await evening.play(shop, merchant, orders, seed, in_the_middle)

    def _copy_live(self) -> None:
        self.found["copied_live"] = self._copy(self.stack.kafka, self.standby.bootstrap)
        self._done("ledger", "roots", "--out", str(self._roots), "--kafka", self.stack.kafka)

    def _lose_the_broker(self) -> None:
        stack, first, second = self.stack, self.stack.kafka, self.standby.bootstrap
        for service in SERVICES:
            stack.kill(service, restart=False)
        began = time.monotonic()
        self._say("all services are killed")
        self.statement_before = asyncio.run(statement(stack.endpoints[PROVIDER]))
        self.found["copied"] = self._copy(first, second, "--final")
        self.found["checks"] = self._check_copy(first, second)
        stack.broker.stop()
        self._done("topics", "open", "--kafka", second)
        # The copy takes over the address of the lost broker, as a name in DNS would be moved.
        self.standby.release()
        self.restored.start(self._directory / "second", port=stack.broker.port)
        shutil.rmtree(stack.data / "state" / STATELESS)
        for service in SERVICES:
            stack.start_service(service)
        for service in SERVICES:
            stack.wait_serving(service)
        self.found["away_s"] = round(time.monotonic() - began, 1)
        self._say(f"the services serve on the copy after {self.found['away_s']} s")

    def _copy(self, source: str, target: str, *options: str) -> dict[str, Any]:
        copied = self._done("topics", "copy", "--kafka", source, "--to", target, "--replication", "1", *options)
        self._say(f"copied {copied['records']} records in {copied['took_s']} s")
        return {name: copied[name] for name in ("records", "took_s")} | {"live": copied["until_ms"] is not None}

    def _done(self, *arguments: str) -> dict[str, Any]:
        done = ops(*arguments)
        if done["code"]:
            raise CommandFailed(f"{' '.join(arguments)} ended with {done['code']}: {done}")
        return done

    def _check_copy(self, source: str, copy: str) -> dict[str, Any]:
        """What an operator looks at before the copy is opened. The commands run side by side to save time."""
        commands = {
            "verify": ("verify", "--kafka", copy),
            "audit": ("audit", "--without-provider", "--roots", str(self._roots), "--kafka", copy),
            "offsets": ("offsets", "recover", "--dry-run", "--kafka", copy),
            "replay": ("replay", "--kafka", copy),
            "replay_of_source": ("replay", "--kafka", source),
        }
        with ThreadPoolExecutor(2) as pool:
            results = dict(zip(commands, pool.map(lambda words: ops(*words), commands.values()), strict=True))
        return {
            "verify": results["verify"]["code"] == 0,
            "audit": results["audit"]["code"] == 0,
            "pending": results["audit"]["under_way"],
            "replay": results["replay"]["code"] == 0 and results["replay"]["decisions"] > 0,
            "same_decisions": results["replay"]["digest"] == results["replay_of_source"]["digest"],
            "offsets_missing": len(results["offsets"]["missing"]),
            "offsets_proven": all(one["proven"] for one in results["offsets"]["missing"]),
        }

    def _checked(self, played: Sequence[evening.Played]) -> dict[str, Any]:
        kafka, provider = self.stack.kafka, self.stack.endpoints[PROVIDER]
        acknowledged = frozenset().union(*(one.acknowledged for one in played))
        report = asyncio.run(audit(kafka, provider, settled=True, acknowledged=acknowledged))
        figures = report.figures()
        after = asyncio.run(statement(provider))
        return {
            "orders": sum(one.orders for one in played),
            "clean": report.clean,
            "violations": figures["violations"],
            "books_equal": figures["books_equal"],
            "captured": sum(1 for one in after if one.captures),
            "captured_before": sum(1 for one in self.statement_before if one.captures),
            "executed_twice": executed_twice(self.statement_before, after),
            "returned": asyncio.run(unexpected_funds(kafka)),
            "set_aside": sorted(one for one in SERVICES if SET_ASIDE in self.stack.log(one)),
            "failure": str(self.stack.failure() or ""),
        }


def executed_twice(before: Iterable[StatementEntry], after: Iterable[StatementEntry]) -> list[str]:
    """Orders with a call that the provider executed twice: two holds, two captures, or another amount than before."""
    after = list(after)
    holds = Counter(one.order for one in after if one.authorised_minor)
    captured = {one.hold: one.captured_minor for one in after}
    found = {order for order, count in holds.items() if count > 1}
    found |= {one.order for one in after if one.captures > 1}
    found |= {one.order for one in before if one.captures and captured.get(one.hold) != one.captured_minor}
    return sorted(found)


async def unexpected_funds(kafka: str) -> list[str]:
    """Orders with funds that the log does not expect: those are what the rules return by themselves.

    Other refunds belong to the evening: what a sale took above the price of the tier.
    """
    found: set[str] = set()

    def take(_topic: str, records: Iterable[Any]) -> None:
        for record in records:
            for event in PaymentDecision.FromString(record.value).events:
                if event.WhichOneof("body") == "suspense_recorded":
                    found.add(event.suspense_recorded.order)

    async with Reader(kafka, [PAYMENT_LOG.name]) as reader:
        await reader.read_to_end(take)
    return sorted(found)


def good(found: dict[str, Any]) -> bool:
    """Whether every claim holds."""
    checks = found["checks"]
    return bool(
        found["copied_live"]["live"]
        and found["copied_live"]["records"]
        and not found["copied"]["live"]
        and checks["pending"]
        and all(checks[name] for name in ("verify", "audit", "replay", "same_decisions", "offsets_proven"))
        and checks["offsets_missing"]
        and found["clean"]
        and not found["violations"]
        and found["books_equal"]
        and found["captured"] > found["captured_before"] > 0
        and not found["executed_twice"]
        and not found["returned"]
        and not found["failure"]
    )


def main() -> int:
    """Runs the rehearsal. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=ORDERS, help="orders of the evening")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    directory = Path(tempfile.mkdtemp(prefix="groupbuy-restore-"))
    rehearsal = Rehearsal(directory, say)
    try:
        found = rehearsal.run(given.orders)
    except (CommandFailed, DevstackError, evening.EveningFailed, TimeoutError) as error:
        say(str(error))
        print(json.dumps({"failed": str(error).splitlines()[0]}))
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(found))
    return 0 if good(found) else 1


if __name__ == "__main__":
    sys.exit(main())
