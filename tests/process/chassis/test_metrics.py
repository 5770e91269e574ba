"""The HTTP port of a service process: metrics, probes, and what it remembers of its earlier runs."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from groupbuy.orders.v1 import orders_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from tests.process.chassis.test_process import Started, started
from tests.unit.chassis.support import SOON_S, a_request
from tests.waiting import wait_for_async

RPC = {
    "grpc_type": "unary",
    "grpc_service": "groupbuy.orders.v1.OrderService",
    "grpc_method": "PlaceOrder",
}


class Port:
    """The HTTP port of a started process."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self.address = address
        self.session = session

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://{self.address}{path}") as answer:
            return answer.status, await answer.text()

    async def probe(self, path: str) -> tuple[int, Any]:
        status, text = await self.get(path)
        return status, json.loads(text)

    async def value(self, name: str, **labels: str) -> float | None:
        """The value of one line of /metrics."""
        _, text = await self.get("/metrics")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None


async def port_of(service: Started, session: aiohttp.ClientSession) -> Port:
    line = json.loads(await service.see_text("serving metrics and probes"))
    return Port(line["address"], session)


async def test_probes_follow_the_process_from_its_start_to_its_end(tmp_path: Path) -> None:
    async with (
        started(tmp_path, GROUPBUY_ORDERS_METRICS_LISTEN="127.0.0.1:0") as service,
        aiohttp.ClientSession() as http,
    ):
        port = await port_of(service, http)
        assert (await port.probe("/live"))[0] == 200
        status, body = await port.probe("/ready")
        assert (status, body["ready"]) == (503, False)
        assert "the broker does not answer" in body["why"]
        assert (await port.probe("/startup"))[0] == 503

        async def answers(path: str, wanted: int, *why: str) -> bool:
            status, body = await port.probe(path)
            return status == wanted and body["why"] == list(why)

        service.send("available 1")
        service.send("recovered")
        await wait_for_async(lambda: answers("/ready", 200), seconds=SOON_S)
        assert await answers("/startup", 200)
        service.send("available 0")
        await wait_for_async(lambda: answers("/ready", 503, "the broker does not answer"), seconds=SOON_S)
        assert await answers("/startup", 200), "a process that has started once stays started"
        assert await port.value("groupbuy_serving") == 0
        assert await port.value("groupbuy_check_passed", check="processors") == 1
        service.send("available 1")
        service.send("quarantine 1")

        async def quarantined() -> bool:
            return await port.value("groupbuy_check_passed", check="partitions") == 0

        await wait_for_async(quarantined, seconds=SOON_S)
        status, body = await port.probe("/ready")
        assert (status, body["quarantined"]) == (200, 1), "the other partitions are served"


async def test_calls_are_counted_by_method_and_status(tmp_path: Path) -> None:
    async with (
        started(tmp_path, GROUPBUY_ORDERS_METRICS_LISTEN="127.0.0.1:0") as service,
        aiohttp.ClientSession() as http,
    ):
        port = await port_of(service, http)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{await service.port()}") as channel:
            orders: Any = orders_pb2_grpc.OrderServiceStub(channel)
            for _ in range(3):
                await orders.PlaceOrder(a_request(), timeout=SOON_S)
            for _ in range(2):
                try:
                    await orders.PlaceOrder(a_request())
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

        async def counted() -> bool:
            return await port.value("grpc_server_started_total", **RPC) == 5

        await wait_for_async(counted, seconds=SOON_S)
        assert await port.value("grpc_server_handled_total", **RPC, grpc_code="OK") == 3
        assert await port.value("grpc_server_handled_total", **RPC, grpc_code="INVALID_ARGUMENT") == 2
        assert await port.value("grpc_server_handling_seconds_count", **RPC) == 5


async def test_it_answers_while_the_event_loop_is_stuck_and_the_next_start_knows_the_exit_code(tmp_path: Path) -> None:
    listen = {"GROUPBUY_ORDERS_METRICS_LISTEN": "127.0.0.1:0"}
    async with started(tmp_path, **listen) as service, aiohttp.ClientSession() as http:
        port = await port_of(service, http)
        assert await port.value("groupbuy_starts_total") == 1
        assert await port.value("groupbuy_last_exit_code") is None
        service.send("stuck")
        await service.see_text("event stuck")
        assert (await port.probe("/live"))[0] == 200
        assert (await service.ended())[0] == 70
    async with started(tmp_path, **listen) as service, aiohttp.ClientSession() as http:
        port = await port_of(service, http)
        assert await port.value("groupbuy_starts_total") == 2
        assert await port.value("groupbuy_last_exit_code") == 70
        service.process.kill()
        await service.ended()
    async with started(tmp_path, **listen) as service, aiohttp.ClientSession() as http:
        port = await port_of(service, http)
        assert await port.value("groupbuy_last_exit_code") == -1
        service.process.send_signal(signal.SIGTERM)
        assert (await service.ended())[0] == 0
    async with started(tmp_path, **listen) as service, aiohttp.ClientSession() as http:
        port = await port_of(service, http)
        assert await port.value("groupbuy_starts_total") == 4
        assert await port.value("groupbuy_last_exit_code") == 0


async def test_a_busy_event_loop_shows_as_lag(tmp_path: Path) -> None:
    async with (
        started(tmp_path, GROUPBUY_ORDERS_METRICS_LISTEN="127.0.0.1:0") as service,
        aiohttp.ClientSession() as http,
    ):
        port = await port_of(service, http)
        service.send("busy")
        await service.see_text("busy no more")

        async def late() -> bool:
            count = await port.value("groupbuy_event_loop_lag_seconds_bucket", le="0.1")
            return count is not None and (await port.value("groupbuy_event_loop_lag_seconds_count") or 0) > count

        await wait_for_async(late, seconds=SOON_S)


async def test_other_paths_and_methods_are_refused_and_connections_are_bounded(tmp_path: Path) -> None:
    async with (
        started(tmp_path, GROUPBUY_ORDERS_METRICS_LISTEN="127.0.0.1:0") as service,
        aiohttp.ClientSession() as http,
    ):
        port = await port_of(service, http)
        assert (await port.get("/"))[0] == 404
        async with http.post(f"http://{port.address}/metrics") as answer:
            assert answer.status == 405
        host, _, number = port.address.rpartition(":")
        idle = [socket.create_connection((host, int(number))) for _ in range(40)]
        try:
            assert (await port.probe("/live"))[0] == 200, "an idle connection is evicted for it"
        finally:
            for one in idle:
                one.close()


async def test_without_an_address_nothing_is_served_and_a_taken_one_is_refused(tmp_path: Path) -> None:
    async with started(tmp_path) as service:
        await service.see_text('"listening"')
        assert not any("serving metrics" in line for line in service.lines)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        async with started(tmp_path, GROUPBUY_ORDERS_METRICS_LISTEN=taken) as service:
            code, _, err = await service.ended()
            assert code == 2
            assert re.fullmatch(
                rf"orders can't start: can't listen on {re.escape(taken)}: address already in use .*"
                r"\(GROUPBUY_ORDERS_METRICS_LISTEN\)\n",
                err,
            )
