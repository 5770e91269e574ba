"""A whole system to measure: broker, provider and services in a temporary directory, stopped and deleted at the end.

The CPU time of each process comes from /proc. A run in which a process was restarted fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest, Tier
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceStub

from bench.flame import entitle, recording
from devstack.errors import DevstackError
from devstack.product import PRODUCT, Plan
from devstack.stack import BROKER, Stack
from groupbuy_testing.running import RunningStack

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CALL_S = 10.0


@contextmanager
def system(
    environment: Mapping[str, Mapping[str, str]] | None = None, *, partitions: int = 4, plan: Plan = PRODUCT
) -> Iterator[RunningStack]:
    """A serving system. An error that the user can fix ends the program with one sentence."""
    # SIGTERM stops the system, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    directory = Path(tempfile.mkdtemp(prefix="bench-system-"))
    running = RunningStack(Stack(directory, environment=environment, partitions=partitions, plan=plan))
    try:
        try:
            running.stack.start()
        except DevstackError as error:
            raise SystemExit(str(error)) from error
        yield running
        _check_healthy(running)
    except BaseException:
        for name, text in running.log_ends(20):
            print(f"--- end of {name}\n{text}", file=sys.stderr)
        raise
    finally:
        running.close()
        running.stack.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _check_healthy(running: RunningStack) -> None:
    if (failure := running.stack.failure()) is not None:
        raise SystemExit(str(failure))


def make_campaign(
    running: RunningStack, *, capacity: int = 10, window_s: int = 86_400, hold_s: int = 3_600, **more: Any
) -> str:
    """Creates a campaign with three tiers and `more` fields, and returns its name."""
    ladder = ((2, 8_900), (5, 7_900), (10, 6_900))
    offer = Campaign(
        product="mug",
        currency="CNY",
        solo_price_minor=9_900,
        tiers=[Tier(members=members, unit_price_minor=price) for members, price in ladder if members <= capacity],
        capacity=capacity,
        window=Duration(seconds=window_s),
        hold_window=Duration(seconds=hold_s),
        **more,
    )
    request = CreateCampaignRequest(campaign=offer, campaign_id=f"b-{uuid4().hex[:12]}", request_id=str(uuid4()))
    return CampaignServiceStub(running.groups).CreateCampaign(request, timeout=CALL_S).name


def pids(running: RunningStack) -> dict[str, int]:
    """Ids of all running processes by name."""
    found = {name: running.stack.pid(name) for name in running.stack.names}
    return {name: pid for name, pid in found.items() if pid is not None}


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def flames(running: RunningStack, directory: Path, *, seconds: float) -> Iterator[None]:
    """Records a flame graph of each Python process, `flame-{name}.svg`, for `seconds`. The sampling slows the run."""
    recorders: list[tuple[Path, subprocess.Popen[bytes]]] = []
    for name, pid in pids(running).items():
        if name == BROKER:
            continue
        output = directory / f"flame-{name}.svg"
        command = recording(output, 50, ["--duration", str(int(seconds)), "--pid", str(pid)])
        one = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        recorders.append((output, one))
    try:
        yield
    finally:
        for output, one in recorders:
            if one.wait() == 0:
                entitle(output)
