"""`make fuzz`: 100,000 random and mutated requests to every RPC. None may fail in the service, hang or leak memory.

Each RPC has its own process, so that its memory is measured alone: real servicers behind the real request pipeline,
without Kafka (worlds.py). The last line is one JSON object; the exit code is 1 after a failure. A failing request is
printed in hexadecimal.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import MutableMapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import structlog
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.calls import Failure, Method, methods
from tests.fuzz.inputs import Inputs, Pool
from tests.fuzz.worlds import WORLDS, World

REQUESTS = 100_000
#: Calls in flight.
CONCURRENCY = 50
#: Requests after which a world resets its history.
RESET_INTERVAL = 500
#: Deadlines in seconds: short, as some calls wait for an event that does not come; some too short, some missing.
DEADLINES_S = (*(0.055,) * 10, *(0.08,) * 8, 0.0, None)
#: Part of the requests after which the memory baseline is measured.
WARM = 0.4
#: Allowed growth: of the allocator, and of caches that were not full at the baseline.
MAX_GROWTH_MB = 12.0
#: Allowed growth of objects a request: a leak has at least one.
MAX_OBJECTS = 0.05
MAX_EXAMPLES = 5


@dataclass(slots=True)
class Result:
    """The result of one RPC."""

    method: str
    requests: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    growth_mb: float = 0.0
    growth_objects: int = 0
    seconds: float = 0.0


def names(service: str) -> list[str]:
    """The RPCs of a service."""
    with tempfile.TemporaryDirectory() as directory:
        return [method.name for method in methods(WORLDS[service](Path(directory)).servicers)]


def fuzz(service: str, name: str, requests: int, seed: int) -> Result:
    """Sends `requests` requests to one RPC, in this process."""
    before = structlog.get_config()
    structlog.configure(processors=[_quiet], cache_logger_on_first_use=False)
    try:
        with tempfile.TemporaryDirectory() as directory:
            world = WORLDS[service](Path(directory))
            (method,) = (one for one in methods(world.servicers) if one.name == name)
            return asyncio.run(_fuzz(world, method, requests, seed))
    finally:
        structlog.configure(**before)


def _quiet(logger: object, method: str, event: MutableMapping[str, Any]) -> NoReturn:
    """Drops all log lines, and keeps the tracebacks of unexpected errors in `defects`."""
    error = event.get("exc_info")
    if isinstance(error, Exception):
        defects.append("".join(traceback.format_exception(error)[-3:]))
    raise structlog.DropEvent


#: Tracebacks of the last unexpected errors in this process.
defects: deque[str] = deque(maxlen=MAX_EXAMPLES)


async def _fuzz(world: World, method: Method, requests: int, seed: int) -> Result:
    result, codes, reasons = Result(method.name), Counter[str](), Counter[str]()
    good = [one for one in world.good if one.DESCRIPTOR is method.descriptor.input_type]
    pool = Pool(world.known)
    inputs = Inputs(method.descriptor.input_type, good, pool, random.Random(f"{seed} {method.name}").getrandbits(64))
    answer = GetMessageClass(method.descriptor.output_type)
    chance = inputs.chance
    began, before = time.monotonic(), (0.0, 0)

    async def one() -> None:
        count = chance.choice((0, 1, 1, 2, 3)) if method.descriptor.client_streaming else 1
        given = [world.signed(inputs.next(), chance) for _ in range(count)]
        try:
            outcome = await method.call(given, chance.choice(DEADLINES_S))
            for data in outcome.answers[:1]:
                # Decoding the response is a check too.
                decoded = answer.FromString(data)
                if chance.random() < 0.05:
                    pool.learn(decoded, chance)
        except Failure as failure:
            result.failed += 1
            if len(result.failures) < MAX_EXAMPLES:
                where = defects.pop() if defects else ""
                result.failures.append(f"{failure}; request {' '.join(data[:2_000].hex() for data in given)} {where}")
            return
        codes[outcome.code.name] += 1
        if outcome.reason:
            reasons[outcome.reason] += 1

    while result.requests < requests:
        some = min(CONCURRENCY, requests - result.requests)
        await asyncio.gather(*(one() for _ in range(some)))
        result.requests += some
        if result.requests % RESET_INTERVAL < CONCURRENCY:
            world.reset()
        if not before[1] and result.requests >= WARM * requests:
            before = _weight(world)
    after = _weight(world)
    result.growth_mb, result.growth_objects = round(after[0] - before[0], 1), after[1] - before[1]
    allowed = 2_000 + int(requests * MAX_OBJECTS)
    if result.growth_mb > MAX_GROWTH_MB or result.growth_objects > allowed:
        result.failed += 1
        result.failures.append(f"memory grew by {result.growth_mb} MB and {result.growth_objects} objects")
    result.codes, result.reasons = dict(codes.most_common()), dict(reasons.most_common())
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _weight(world: World) -> tuple[float, int]:
    """Memory of this process in MB and its number of objects, without calls in flight and with a small history."""
    world.reset()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(gc.get_objects())


def every(requests: int, seed: int, jobs: int, only: str = "") -> list[Result]:
    """Fuzzes all RPCs, or those with `only` in their name, in `jobs` processes at a time."""
    wanted = [(service, name) for service in WORLDS for name in names(service) if only in name]
    context = multiprocessing.get_context("spawn")
    results: list[Result] = []
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        running: list[tuple[str, Future[Result]]] = [
            (name, pool.submit(fuzz, service, name, requests, seed)) for service, name in wanted
        ]
        for name, future in running:
            try:
                results.append(future.result())
            except BrokenProcessPool:
                results.append(Result(name, failures=["this process or another one of the pool crashed"], failed=1))
            _report(results[-1])
    return results


def _report(result: Result) -> None:
    codes = ", ".join(f"{code} {count}" for code, count in result.codes.items())
    grown = f"{result.growth_mb:+.1f} MB, {result.growth_objects:+} objects"
    print(f"{result.method:52} {result.requests:7} in {result.seconds:5.0f} s  {grown:28} {codes}", flush=True)
    for failure in result.failures:
        print(f"  FAILED {failure}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the fuzzer and returns the exit code."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Random and mutated requests to every RPC.")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="requests to each RPC (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="determines the requests (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time (%(default)s)")
    parser.add_argument("--only", default="", help="fuzz only RPCs with this text in their names")
    options = parser.parse_args(arguments)
    results = every(options.requests, options.seed, options.jobs, options.only)
    reasons: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for result in results:
        reasons.update(result.reasons)
        codes.update(result.codes)
    failed = [asdict(result) for result in results if result.failed]
    report = {
        "methods": len(results),
        "requests_per_method": options.requests,
        "requests": sum(result.requests for result in results),
        "failures": sum(result.failed for result in results),
        "answered": codes["OK"],
        "codes": dict(codes.most_common()),
        "reasons": dict(reasons.most_common()),
        "growth_mb": max((result.growth_mb for result in results), default=0.0),
        "growth_objects": max((result.growth_objects for result in results), default=0),
        "seed": options.seed,
        "failed_methods": [one["method"] for one in failed],
    }
    print(json.dumps(report))
    return 0 if results and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
