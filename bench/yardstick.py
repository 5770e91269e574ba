"""The yardstick of the RPC benchmarks: a bare grpc.aio echo server under the same load generator, in the same run.

A shared machine is twice as fast in one hour as in the next. A target in seconds is then red or green by chance, so the
targets are ratios to what the machine does without our code.
"""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

from bench.command import ROOT, python

#: Calls in flight while the highest rate is measured, and seconds before the measurement.
IN_FLIGHT = 200
WARM_S = 1


class Echo(NamedTuple):
    """The speed of the machine without our code."""

    #: Highest rate of calls.
    per_s: float
    #: 99th percentile of the latency at half of it, in milliseconds.
    p99_ms: float

    def calls_in(self, milliseconds: float) -> float:
        """How many calls the echo server answers in a time: a time in units of the machine's speed."""
        return milliseconds / 1000 * self.per_s


def measure_echo(seconds: float) -> Echo:
    """Measures for `seconds` at the highest rate, and as long at half of it."""
    server = subprocess.Popen([sys.executable, "-m", "bench.api.echo"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert server.stdout is not None
        job = {
            "endpoint": f"127.0.0.1:{int(server.stdout.readline())}",
            "campaign": "campaigns/none",
            "seconds": seconds,
        }
        most = int((seconds + WARM_S) * 10_000)
        highest = python(
            "bench.api.load", {**job, "job": "closed", "at_once": IN_FLIGHT, "warm_s": WARM_S, "most": most}
        )
        rate = highest["per_s"] / 2
        half = python("bench.api.load", {**job, "job": "open", "rate": rate, "most": int(rate * seconds)})
    finally:
        server.kill()
        server.wait()
    print(f"echo    {highest['per_s']:,.0f}/s, p99 {half['p99_ms']:.1f} ms at half of it", flush=True)
    return Echo(highest["per_s"], half["p99_ms"])
