"""A whole system to measure: broker, provider and services in a directory of their own, stopped whatever happens.

What each of its processes costs is read from the kernel's own accounts. Must never leave a process or a directory
behind, nor count a run in which a process had to be started again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1.campaigns_pb2 import Campaign, CreateCampaignRequest, Tier
from groupbuy.groups.v1.campaigns_pb2_grpc import CampaignServiceStub

from bench.flame import entitle, recording
from devstack.errors import DevstackError
from devstack.stack import BROKER, Stack
from groupbuy_testing.running import RunningStack

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CALL_S = 10.0


@contextmanager
def system(
    environment: Mapping[str, Mapping[str, str]] | None = None, *, partitions: int = 4
) -> Iterator[RunningStack]:
    """A system that serves. What a person can mend ends the program with one sentence."""
    # Whoever ends us with SIGTERM wants the system gone too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    directory = Path(tempfile.mkdtemp(prefix="bench-system-"))
    running = RunningStack(Stack(directory, environment=environment, partitions=partitions))
    try:
        try:
            running.stack.start()
        except DevstackError as error:
            raise SystemExit(str(error)) from error
        yield running
        _still_well(running)
    except BaseException:
        for name, text in running.log_ends(20):
            print(f"--- end of {name}\n{text}", file=sys.stderr)
        raise
    finally:
        running.close()
        running.stack.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _still_well(running: RunningStack) -> None:
    if (failure := running.stack.failure()) is not None:
        raise SystemExit(str(failure))


def make_campaign(running: RunningStack, *, capacity: int = 10, window_s: int = 86_400, hold_s: int = 3_600) -> str:
    """A campaign of the usual ladder, and its name."""
    ladder = ((2, 8_900), (5, 7_900), (10, 6_900))
    offer = Campaign(
        product="mug",
        currency="CNY",
        solo_price_minor=9_900,
        tiers=[Tier(members=members, unit_price_minor=price) for members, price in ladder if members <= capacity],
        capacity=capacity,
        window=Duration(seconds=window_s),
        hold_window=Duration(seconds=hold_s),
    )
    request = CreateCampaignRequest(campaign=offer, campaign_id=f"b-{uuid4().hex[:12]}", request_id=str(uuid4()))
    return CampaignServiceStub(running.groups).CreateCampaign(request, timeout=CALL_S).name


def pids(running: RunningStack) -> dict[str, int]:
    """Process ids by name, of all processes that run."""
    found = {name: running.stack.pid(name) for name in running.stack.names}
    return {name: pid for name, pid in found.items() if pid is not None}


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used, in its own code and in the kernel's."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def flames(running: RunningStack, directory: Path, *, seconds: float) -> Iterator[None]:
    """Keeps a flame graph of each Python process for so many seconds, `flame-{name}.svg`. Being watched costs time."""
    watching: list[tuple[Path, subprocess.Popen[bytes]]] = []
    for name, pid in pids(running).items():
        if name == BROKER:
            continue
        output = directory / f"flame-{name}.svg"
        command = recording(output, 50, ["--duration", str(int(seconds)), "--pid", str(pid)])
        one = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        watching.append((output, one))
    try:
        yield
    finally:
        for output, one in watching:
            if one.wait() == 0:
                entitle(output)


def python(module: str, job: Mapping[str, Any]) -> Any:
    """Runs a module of ours in a process of its own with a job, and returns what its last line says."""
    command = [sys.executable, "-m", module, json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    if done.returncode or not done.stdout.strip():
        raise SystemExit(f"{module} ended with code {done.returncode} and no figures")
    return json.loads(done.stdout.splitlines()[-1])


def conclude(found: Mapping[str, Any], *claims: bool) -> NoReturn:
    """Prints the figures as the last line, and ends the program: with 1 where a claim does not hold."""
    print(json.dumps(found))
    sys.exit(0 if all(claims) else 1)
