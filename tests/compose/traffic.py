"""The traffic on a Compose stack: an evening with a service killed in it, and a load near the capacity."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc

from groupbuy_client import Client
from groupbuy_client.transport import TRUST_DOMAIN, expecting, mtls
from tests import evening
from tests.compose.images import ROOT
from tests.compose.stack import ComposeStack

VICTIM = "groups"
#: The load of `throughput`, below the 690/s of `make bench-settle` on two cores: orders per second, seconds, warm-up.
RATE, SECONDS, WARM_S = 600.0, 10.0, 3.0
#: Longer than the load and its settlement.
WINDOW_S = 45
PARTITIONS = 8


def play(stack: ComposeStack, orders: int, seed: int, *, kill: bool, callers: Path | None = None) -> int:
    """Plays an evening and returns the number of orders. `callers` has the certificates of a secured stack.

    Raises EveningFailed if a call fails that should not.
    """
    return asyncio.run(_play(stack, orders, seed, kill=kill, callers=callers))


async def _play(stack: ComposeStack, orders: int, seed: int, *, kill: bool, callers: Path | None) -> int:
    async with (
        _channel(stack, "orders", "shop", callers) as shop,
        _channel(stack, "groups", "merchant", callers) as merchant,
    ):
        played = await evening.play(shop, merchant, orders, seed, (lambda: stack.kill(VICTIM)) if kill else None)
    return played.orders


def _channel(stack: ComposeStack, service: str, caller: str, callers: Path | None) -> grpc.aio.Channel:
    target = stack.address(service)
    if callers is None:
        return grpc.aio.insecure_channel(target)
    files = callers / caller
    credentials = mtls(files / "certificate.pem", files / "key.pem", files / "ca.pem")
    return grpc.aio.secure_channel(target, credentials, options=expecting(service, TRUST_DOMAIN))


def throughput(stack: ComposeStack) -> dict[str, Any]:
    """Settled orders per second of a load close to the capacity: all settled orders by the time until the last one."""
    with Client(groups=stack.address("groups")) as shop:
        campaign = shop.create_campaign(
            product="mug",
            currency="CNY",
            solo_price_minor=9_900,
            capacity=10,
            tiers=[(2, 8_900), (5, 7_900), (10, 6_900)],
            # Groups that the load leaves incomplete expire, so that the audit finds nothing in progress.
            window=timedelta(seconds=WINDOW_S),
            hold_window=timedelta(seconds=WINDOW_S),
        )
    job = {
        "kind": "stream",
        "kafka": stack.address("kafka"),
        "orders": stack.address("orders"),
        "partitions": PARTITIONS,
        "campaign": campaign.name,
        "rate": RATE,
        "seconds": SECONDS,
        "warm_s": WARM_S,
        "latencies": False,
    }
    command = [sys.executable, "-m", "bench.settle.load", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise evening.EveningFailed(f"the load ended with {done.returncode}:\n{done.stderr[-1000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    per_s = found["settled"] / (SECONDS + max(float(found["drain_s"]), 0.0))
    return {"settled": found["settled"], "per_s": round(per_s, 1), "failed": found["failed"]}
