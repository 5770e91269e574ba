"""bench-beside: the latency of gRPC calls in a process whose group decider consumes at full speed.

A decider consumes an evening's inbox on one core. Meanwhile callers call an echo method on the same event loop; only
calls made between the first and the last record count. Prints one JSON object as its last line, and exits with 1 if the
target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc

from bench.broker import kafka
from bench.command import ROOT, conclude
from bench.fold.__main__ import PARTITIONS, prepare
from bench.fold.topics import DECIDER, INBOX, LOG
from bench.fold.worker import Meter, drain
from bench.yardstick import measure_echo
from chassis.admission.thread_priority import DECIDING, apply_thread_priorities
from chassis.rpc.client_config.channel_options import DIRECT
from eventlog.processors.base import Connection
from eventlog.processors.decider import Decider
from eventlog.records.codec import Codec
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State
from services.groups.processors.codec import decode, encode

#: 99th percentile of a call beside the decider, in calls of the echo server alone.
MAX_ECHOES = 160.0
ECHO_S = 5.0
CALLERS = 4
#: Seconds between a response and the next call of the same caller.
PAUSE_S = 0.005
METHOD = "/bench.Echo/Echo"
MIN_CALLS = 200


async def _echo(request: bytes, context: Any) -> bytes:
    return request


async def serve(bootstrap: str, facts: int) -> None:
    """The process under test: prints its port, then the times of its consumption on the monotonic clock."""
    server = grpc.aio.server()
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(_echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ranking = asyncio.create_task(apply_thread_priorities(DECIDING))
    print(port, flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-beside-") as state:
        codec: Codec[State] = Codec("bench-2", encode, decode)
        meter = Meter(facts)
        connection = Connection(bootstrap, "e0", Path(state))
        await drain(Decider(DECIDER, INBOX, LOG, GroupDomain(), connection, codec), PARTITIONS, meter)
        ended = time.monotonic()
        found = meter.result()
        print(json.dumps({**found, "began": ended - found["seconds"], "ended": ended}), flush=True)
    ranking.cancel()


async def _call(port: int, times: list[tuple[float, float]]) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=DIRECT) as channel:
        echo = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
        while True:
            began = time.monotonic()
            await echo(b"x" * 100, timeout=10)
            times.append((began, time.monotonic() - began))
            await asyncio.sleep(PAUSE_S)


async def measure(bootstrap: str, facts: int) -> dict[str, float]:
    """Fills the inbox, starts the process and calls it until it has consumed the inbox."""
    await prepare(bootstrap, facts)
    command = [sys.executable, "-m", "bench.beside", "--serve", bootstrap, "--facts", str(facts)]
    worker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    assert worker.stdout is not None
    # The process under test runs alone on its core.
    os.sched_setaffinity(worker.pid, {1})
    callers: list[asyncio.Task[None]] = []
    times: list[tuple[float, float]] = []
    try:
        port = int(await worker.stdout.readline())
        callers = [asyncio.ensure_future(_call(port, times)) for _ in range(CALLERS)]
        found = json.loads(await worker.stdout.readline())
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        if worker.returncode is None:
            worker.kill()
        await worker.wait()
    took = sorted(took for began, took in times if found["began"] <= began <= found["ended"])
    if len(took) < MIN_CALLS:
        raise SystemExit(f"only {len(took)} calls during {found['seconds']} s of consumption: use more facts")
    return {
        "facts": facts,
        "facts_per_s": found["per_s"],
        "calls": len(took),
        "p50_ms": round(took[len(took) // 2] * 1000, 1),
        "p99_ms": round(took[len(took) * 99 // 100] * 1000, 1),
        "max_ms": round(took[-1] * 1000, 1),
    }


def main() -> None:
    """Runs the benchmark, or its process under test."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--facts", type=int, default=300_000, help="inputs in the inbox")
    parser.add_argument("--serve", metavar="KAFKA", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve, given.facts))
        return
    echo = measure_echo(ECHO_S)
    with kafka() as bootstrap:
        found = asyncio.run(measure(bootstrap, given.facts))
    found["echo_per_s"] = round(echo.per_s)
    found["p99_in_echoes"] = round(echo.calls_in(found["p99_ms"]))
    conclude(found, found["p99_in_echoes"] <= MAX_ECHOES)


if __name__ == "__main__":
    main()
