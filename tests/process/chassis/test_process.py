"""A service process from outside: how it starts, waits, serves and ends, by health, logs and exit code."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.admission.thread_priority import DECIDING, READER_THREADS
from chassis.rpc.server import PARTITIONS
from tests.process.chassis.fake_service import STUCK_S
from tests.unit.chassis.fake_orders import ORDERS
from tests.unit.chassis.support import SOON_S, niceness
from tests.waiting import moment

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
#: Seconds by which an exit may be late on a machine with two busy cores.
SLACK_S = 1.5


class Started:
    """A fake service in its own process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.logs: list[dict[str, Any]] = []

    async def see(self, wanted: Callable[[str], bool]) -> str:
        """Reads standard output until a line fits."""
        assert self.process.stdout is not None
        try:
            while line := (await asyncio.wait_for(self.process.stdout.readline(), SOON_S)).decode().rstrip():
                self.lines.append(line)
                if not line.startswith("event"):
                    self.logs.append(json.loads(line))
                if wanted(line):
                    return line
        except TimeoutError:
            raise AssertionError(f"it prints nothing more; so far: {self.lines}") from None
        raise AssertionError(f"it ended without that line; so far: {self.lines}")

    async def see_text(self, text: str) -> str:
        """Reads standard output until a line has the text."""
        return await self.see(lambda line: text in line)

    async def port(self) -> int:
        """The port of its server."""
        return int(json.loads(await self.see_text('"listening"'))["port"])

    def send(self, line: str) -> None:
        """Sends it a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    async def ended(self) -> tuple[int, list[str], str]:
        """Its exit code, the rest of standard output, and standard error."""
        out, err = await asyncio.wait_for(self.process.communicate(), SOON_S)
        return self.process.returncode or 0, out.decode().splitlines(), err.decode()


@asynccontextmanager
async def started(tmp_path: Path, **environment: str) -> AsyncIterator[Started]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.process.chassis.fake_service",
        env={
            **os.environ,
            # All processes share one cache of compiled modules.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(tmp_path.parent / "bytecode"),
            "GROUPBUY_ORDERS_LISTEN": "127.0.0.1:0",
            "GROUPBUY_ORDERS_STATE_DIR": str(tmp_path / "state"),
            "GROUPBUY_ORDERS_DRAIN_SECONDS": "5",
            "GROUPBUY_ORDERS_INSECURE": "true",
            **environment,
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Started(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def health(port: int, service: str = "") -> AsyncIterator[Any]:
    """A watch of health."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        yield stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=SOON_S)


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_without_a_broker_it_logs_that_is_not_serving_and_stops_promptly(tmp_path: Path) -> None:
    kafka = f"127.0.0.1:{closed_port()}"
    async with started(tmp_path, REAL_BROKER="1", GROUPBUY_ORDERS_KAFKA=kafka) as service:
        async with health(await service.port(), ORDERS) as status:
            assert (await status.read()).status == NOT_SERVING
        for _ in range(2):
            line = json.loads(await service.see_text("is unavailable"))
            assert line["event"].startswith(f"broker {kafka} is unavailable; retrying in ")
            assert line["service"] == "orders"
        attempts = [log for log in service.logs if log["level"] != "info"]
        assert len(attempts) == 2, "one line for each attempt, and no other"
        service.process.send_signal(signal.SIGTERM)
        code, out, err = await service.ended()
        assert code == 0
        assert '"stopped"' in out[-1]
        assert err == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have no priority of their own elsewhere")
async def test_threads_have_the_priorities_of_the_service(tmp_path: Path) -> None:
    async with started(tmp_path) as service, health(await service.port(), ORDERS) as status:
        await status.read()
        nice = niceness(service.process.pid)
        own = os.getpriority(os.PRIO_PROCESS, service.process.pid)
        for name in READER_THREADS:
            assert nice[name] == {min(own + DECIDING.reading, 19)}


async def test_it_serves_once_recovered_and_while_broker_and_state_are_available(tmp_path: Path) -> None:
    async with started(tmp_path) as service, health(await service.port(), ORDERS) as status:
        assert (await status.read()).status == NOT_SERVING
        service.send("available 1")
        await service.see_text("processors start with 4")
        service.send("recovered")
        assert (await status.read()).status == SERVING
        service.send("ready 0")
        assert (await status.read()).status == NOT_SERVING
        service.send("ready 1")
        assert (await status.read()).status == SERVING
        service.send("available 0")
        assert (await status.read()).status == NOT_SERVING
        service.send("available 1")
        assert (await status.read()).status == SERVING
        service.send("producer 0")
        assert (await status.read()).status == NOT_SERVING
        service.send("producer 1")
        assert (await status.read()).status == SERVING
        service.process.send_signal(signal.SIGINT)
        assert (await status.read()).status == NOT_SERVING
        code, out, _ = await service.ended()
        assert code == 0
        stopped = [line for line in out if line.startswith("event")]
        assert stopped == ["event processors stopped", "event publisher stopped", "event broker closed"]


async def test_a_quarantined_partition_has_its_own_health_and_the_process_serves(
    tmp_path: Path,
) -> None:
    async with started(tmp_path) as service:
        port = await service.port()
        async with health(port, ORDERS) as status, health(port, PARTITIONS) as partitions:
            assert (await partitions.read()).status == SERVING
            assert (await status.read()).status == NOT_SERVING
            service.send("available 1")
            service.send("recovered")
            assert (await status.read()).status == SERVING
            service.send("quarantine 1")
            assert (await partitions.read()).status == NOT_SERVING
            line = json.loads(await service.see_text("a partition is quarantined"))
            assert (line["group"], line["partition"], line["offset"]) == ("orders.view", 2, 17)
            service.send("quarantine 0")
            assert (await partitions.read()).status == SERVING
            service.send("ready 0")
            # The first change after SERVING: the quarantine did not change it.
            assert (await status.read()).status == NOT_SERVING


async def test_a_part_that_is_cancelled_from_inside_ends_the_process_with_70(tmp_path: Path) -> None:
    async with started(tmp_path) as service:
        service.send("available 1")
        service.send("recovered")
        service.send("cancelled")
        code, out, _ = await service.ended()
        assert code == 70
        assert "ending with code 70: the service failed" in "".join(out)


async def test_a_stop_during_recovery_ends_the_process_with_0(tmp_path: Path) -> None:
    async with started(tmp_path) as service:
        service.send("available 1")
        await service.see_text("processors start")
        service.process.send_signal(signal.SIGTERM)
        code, out, _ = await service.ended()
        assert code == 0
        assert "event processors stopped" in out


async def test_topics_that_differ_end_the_process_with_70(tmp_path: Path) -> None:
    async with started(tmp_path) as service:
        await service.port()
        service.send("differ")
        line = await service.see_text("critical")
        assert "topics differ: orders.order.v1 has 3 partitions" in line
        assert (await service.ended())[0] == 70


async def test_processors_that_do_not_stop_end_the_process_with_70(tmp_path: Path) -> None:
    async with started(tmp_path, GROUPBUY_ORDERS_DRAIN_SECONDS="0.2") as service:
        service.send("available 1\nnever_stop")
        await service.see_text("processors start")
        service.process.send_signal(signal.SIGTERM)
        await service.see_text("not drained within 0.2 s")
        assert (await service.ended())[0] == 70


async def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    async with started(tmp_path) as service:
        service.send("available 1\nnever_stop")
        await service.see_text("processors start")
        service.process.send_signal(signal.SIGTERM)
        await service.see_text("stopping")
        service.process.send_signal(signal.SIGTERM)
        await service.see_text("second signal")
        assert (await service.ended())[0] == 128 + signal.SIGTERM


async def test_a_stuck_event_loop_ends_the_process_with_70_and_its_stack(tmp_path: Path) -> None:
    async with started(tmp_path) as service:
        await service.port()
        service.send("stuck")
        code, _, err = await service.ended()
        assert code == 70
        first, title, innermost, caller, *_ = err.splitlines()
        stuck = (
            r"stopping with code 70: the event loop has been stuck for 0\.5 s, at .*fake_service\.py:\d+ in .*\.stuck"
        )
        assert re.fullmatch(stuck, first)
        assert title == "the event loop's thread:"
        assert innermost.endswith(".stuck")
        assert caller.endswith("._read")
        assert "Thread 0x" in err, "the other threads, one of which may be what it waits for"


async def test_a_stuck_event_loop_ends_the_process_though_its_output_is_not_read(tmp_path: Path) -> None:
    async with started(tmp_path) as service:
        await service.port()
        service.send("fill\nstuck")
        await service.see_text("event stuck")
        async with asyncio.timeout(STUCK_S + 1 + SLACK_S):
            while service.process.returncode is None:
                await moment()
        assert (await service.ended())[0] == 70


async def test_a_slow_event_loop_is_not_stuck(tmp_path: Path) -> None:
    async with started(tmp_path) as service:
        await service.port()
        service.send("busy")
        await service.see_text("busy no more")
        service.process.send_signal(signal.SIGTERM)
        assert (await service.ended())[0] == 0


async def test_a_thawed_process_is_not_stuck(tmp_path: Path) -> None:
    async with started(tmp_path) as service:
        await service.port()
        service.process.send_signal(signal.SIGSTOP)
        await moment(2 * STUCK_S)
        service.process.send_signal(signal.SIGCONT)
        service.send("available 1")
        await service.see_text("processors start")
        service.process.send_signal(signal.SIGTERM)
        assert (await service.ended())[0] == 0


async def test_a_port_in_use_is_an_invalid_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        async with started(tmp_path, GROUPBUY_ORDERS_LISTEN=listen) as service:
            code, _, err = await service.ended()
            assert code == 2
            assert err == (
                f"orders can't start: can't listen on {listen}: address already in use (GROUPBUY_ORDERS_LISTEN)\n"
            )


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [("KAFKA", "nowhere", "must be host:port"), ("STATE_DIR", "/dev/null/state", "can't make /dev/null/state")],
)
async def test_an_invalid_setting_ends_the_process_with_2(
    tmp_path: Path, variable: str, value: str, sentence: str
) -> None:
    environment = {f"GROUPBUY_ORDERS_{variable}": value}
    async with started(tmp_path, **environment) as service:
        code, _, err = await service.ended()
        assert code == 2
        assert sentence in err
        assert f"GROUPBUY_ORDERS_{variable}" in err
        assert "Traceback" not in err
