"""`groupbuy-ops watch`, `lag` and `stuck` on a real system: a dead service, its return, a restart of watch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.stack import Stack
from devstack.supervision.waiting import wait_for
from groupbuy_testing.running import RunningStack
from ops.watch.lag import OPTIONAL, READERS
from shared_kernel.topics import PAYMENTS_EFFECTS
from tests.integration.shop import Shop

#: A dead service is reported within this time.
REPORTED_S = 30.0
PATIENCE_S = 60.0
SETTLED = 'groupbuy_groups_total{end="settled"}'


class Watch:
    """A running `groupbuy-ops watch`."""

    def __init__(self, kafka: str, provider: str, directory: Path) -> None:
        self._log = directory / "watch.log"
        self._from = 0
        command = [sys.executable, "-m", "ops.main", "watch", "--kafka", kafka, "--listen", "127.0.0.1:0"]
        command += ["--state", str(directory / "state"), "--workers", "2"]
        command += ["--statement", provider, "--statement-every", "2"]
        with self._log.open("ab") as log:
            self._from = log.tell()
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.until("metrics and probes")
        self._url = next(line["event"] for line in self.lines() if "metrics and probes" in line["event"]).split()[-1]

    def lines(self) -> list[dict[str, Any]]:
        """The log lines of this run."""
        text = self._log.read_bytes()[self._from :].decode()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def until(self, words: str, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """The first log line with these words."""
        assert wait_for(lambda: any(words in str(line) for line in self.lines()), timeout_s=seconds), (
            self._log.read_text()
        )
        return next(line for line in self.lines() if words in str(line))

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"{self._url}{path}", timeout=10) as response:
            return str(response.read().decode())

    def metric(self, line: str) -> float | None:
        """The value of a series."""
        found = [one for one in self.page("/metrics").splitlines() if one.startswith(f"{line} ")]
        return float(found[0].split()[-1]) if found else None

    def ready(self) -> bool:
        try:
            return bool(json.loads(self.page("/ready"))["ready"])
        except OSError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        return self._process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # Of its own: what other tests leave on the shared one (unexpected funds, holds that only the provider knows) is
    # rightly reported.
    with Stack(tmp_path_factory.mktemp("watch")) as started:
        yield started


@pytest.fixture
def shop(stack: Stack) -> Iterator[Shop]:
    running = RunningStack(stack)
    yield Shop(running)
    running.close()


@pytest.fixture
def watch(shop: Shop, tmp_path: Path) -> Iterator[Watch]:
    made = Watch(shop.stack.kafka, shop.stack.endpoints["provider"], tmp_path)
    yield made
    made.stop(signal.SIGKILL)


def ops(shop: Shop, *args: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and JSON lines of a command."""
    command = [sys.executable, "-m", "ops.main", *args, "--kafka", shop.stack.kafka, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=PATIENCE_S)
    # `stuck` notes there that it has no address of the payments service.
    assert not done.stderr or "issues are not listed" in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(300)
def test_a_dead_service_is_reported_and_its_return_too(shop: Shop, watch: Watch) -> None:
    campaign = shop.campaign(capacity=2, tiers=((2, 8_900),), window_s=120.0, hold_s=90.0)
    shop.wait_all(shop.full_group(campaign, 2), "SETTLED")
    assert wait_for(watch.ready, timeout_s=PATIENCE_S)
    assert wait_for(lambda: (watch.metric(SETTLED) or 0) >= 1, timeout_s=PATIENCE_S)
    members = f'groupbuy_watch_members{{consumer_group="{PAYMENTS_EFFECTS}"}}'
    assert watch.metric(members) == 1
    assert ops(shop, "stuck", "--over", "20")[0] == 0

    shop.stack.stack.kill("payments", restart=False)
    killed_s = time.monotonic()
    waiting = shop.place(campaign)
    line = watch.until(f"group {PAYMENTS_EFFECTS} has no member", REPORTED_S)
    assert time.monotonic() - killed_s < REPORTED_S
    assert line["level"] == "error"
    assert watch.metric(members) == 0
    code, rows = ops(shop, "lag")
    assert code == 1
    # This stack has no inventory service: the groups that only it would join are no readers.
    assert {row["group"] for row in rows} == READERS.keys() - OPTIONAL
    assert not any(watch.metric(f'groupbuy_watch_members{{consumer_group="{one}"}}') is not None for one in OPTIONAL)
    behind = [row for row in rows if row["group"] == "groupbuy.payments.sequencer" and row.get("topic")]
    assert behind[0]["owner"] == ""
    assert behind[0]["records"] > 0
    code, stuck = ops(shop, "stuck", "--over", "1")
    assert code == 1
    assert any(one["kind"] == "service" and "payments.sequencer" in one["why"] for one in stuck)

    shop.stack.stack.start_service("payments")
    shop.stack.stack.wait_serving("payments")
    watch.until(f"group {PAYMENTS_EFFECTS} works again")
    shop.wait_all([waiting, shop.place(campaign, waiting.group)], "SETTLED")
    assert wait_for(lambda: ops(shop, "lag")[0] == 0, timeout_s=PATIENCE_S)


@pytest.mark.timeout(300)
def test_watch_goes_on_after_a_restart_with_equal_figures(shop: Shop, watch: Watch, tmp_path: Path) -> None:
    campaign = shop.campaign(capacity=2, tiers=((2, 8_900),))
    shop.wait_all(shop.full_group(campaign, 2), "SETTLED")
    assert wait_for(lambda: (watch.metric(SETTLED) or 0) >= 1, timeout_s=PATIENCE_S)
    differs = 'groupbuy_reconcile_differences{provider="simulated"}'
    assert wait_for(lambda: watch.metric(differs) == 0, timeout_s=PATIENCE_S)
    lines = watch.page("/metrics").splitlines()
    assert len(lines) < 500
    differences = [one for one in lines if one.startswith("groupbuy_audit_differences{")]
    assert len(differences) == 22
    assert all(one.endswith(" 0.0") for one in differences)
    settled = watch.metric(SETTLED)

    assert watch.stop() == 0
    again = Watch(shop.stack.kafka, shop.stack.endpoints["provider"], tmp_path)
    try:
        assert wait_for(again.ready, timeout_s=PATIENCE_S)
        assert again.metric(SETTLED) == settled
        # Everything was folded before the restart.
        assert again.metric("groupbuy_watch_position_records_total") == 0
    finally:
        assert again.stop() == 0


def test_once_agrees_with_the_audit(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2, tiers=((2, 8_900),))
    shop.wait_all(shop.full_group(campaign, 2), "SETTLED")
    code, lines = ops(shop, "watch", "--once", "--statement", shop.stack.endpoints["provider"])
    assert code == 0
    figures = lines[-1]
    code, audited = ops(shop, "audit", "--provider", shop.stack.endpoints["provider"])
    assert code == 0
    assert figures["violations"] == audited[-1]["violations"] == 0
    assert figures["money_minor"]["CNY"]["captured"] == audited[-1]["captured_minor"]["CNY"]
    assert figures["statements"] == [
        {"provider": "simulated", "entries": figures["statements"][0]["entries"], "differences": 0, "left_out": 0}
    ]
    assert figures["statements"][0]["entries"] >= 2
