"""Notifications reach the payment inbox, also late or duplicated, across broker outages and restarts of the provider.
Method: the simulated provider and the service's webhook server in this process, over HTTP; the broker is a list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, PaymentInput, ProviderOutcome
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from chassis.admission.rate_limit import RateLimit
from chassis.outside.webhook_server import WebhookServer
from eventlog.core.errors import BrokerUnavailable
from eventlog.producing.record_accumulator import Position, Record
from services.payments.api.webhook_ingest import WebhookIngest
from services.payments.providers.port import Provider
from services.payments.providers.registry import notifications_of
from services.payments.providers.simulator_client.adapter import SimulatedProvider
from services.payments.providers.stripe.adapter import StripeProvider
from services.payments.providers.wechat.adapter import WeChatProvider
from services.payments.providers.wechat.client import WeChatClient
from simulators.psp.server import Server
from simulators.psp.settings import Settings
from simulators.psp.wechat import signer
from tests import provider_simulator
from tests.provider_simulator import merchant
from tests.waiting import wait_for_async

GROUP = "0f1e2d3c-0000-4000-8000-000000000001"
ORDER = "0f1e2d3c-0000-4000-8000-000000000002"
SECRET = "own"


class Log:
    """The payment inbox, as a list."""

    def __init__(self) -> None:
        self.away = False
        self.records: list[tuple[str, ProviderOutcome]] = []

    async def publish(self, topic: str, record: Record, *, timeout_s: float | None = None) -> Position:
        if self.away:
            raise BrokerUnavailable("away")
        self.records.append((record.key, PaymentInput.FromString(record.value).outcome))
        return Position(0, len(self.records), 0)


class World:
    """A simulated provider that notifies a webhook server."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.log = Log()
        self.health: Mapping[str, bool] = {"simulated": True}
        #: Statuses of all answers.
        self.answers: list[int] = []
        self.webhooks: WebhookServer
        self.server: Server | None = None
        self.address = ""

    async def start(self) -> None:
        keys = self._directory / "wechat_keys"
        signer.Signer(keys)
        notifications = notifications_of(
            stripe_secrets=lambda: ("whsec_simulated",), wechat=merchant(keys), simulated_secret=SECRET
        )
        ingest = WebhookIngest(notifications, self.log, lambda: 0).ingest
        self.webhooks = WebhookServer("127.0.0.1:0", ingest, lambda: self.health)
        respond = self.webhooks._respond

        async def answered(request: Any) -> Any:
            made = await respond(request)
            self.answers.append(made.status)
            return made

        self.webhooks._respond = answered  # type: ignore[method-assign]
        await self.webhooks.start(4)
        await self.start_provider()

    async def start_provider(self, **settings: Any) -> None:
        made = Settings(
            listen="127.0.0.1:0",
            http_listen="127.0.0.1:0",
            database=self._directory / "books.sqlite",
            notify_url=f"http://{self.webhooks.address}/webhooks",
            notify_secret=SECRET,  # type: ignore[arg-type]
            notify_own=True,
            **settings,
        )
        self.server = Server(made)
        self.address = await self.server.start()

    async def stop_provider(self) -> None:
        if self.server is not None:
            await self.server.stop(0)
            self.server = None

    @asynccontextmanager
    async def adapter(self, name: str) -> AsyncIterator[Provider]:
        assert self.server is not None
        url = f"http://{self.server.http_address}"
        made: Provider
        match name:
            case "stripe":
                made = StripeProvider("sk_test_simulated", url)
            case "wechat":
                client = WeChatClient(merchant(self._directory / "wechat_keys"), url)
                made = WeChatProvider(client, notify_url="https://shop.invalid")
            case _:
                made = SimulatedProvider(self.address)
        yield made
        await made.close()

    async def configure(self, behaviour: pb.Behaviour) -> None:
        await provider_simulator.configure(self.address, behaviour)

    async def received(self, count: int) -> list[tuple[str, ProviderOutcome]]:
        async def enough() -> bool:
            return len(self.log.records) >= count

        await wait_for_async(enough, seconds=10, every=0.02)
        return self.log.records

    async def url(self, path: str) -> str:
        return f"http://{self.webhooks.address}{path}"

    async def close(self) -> None:
        await self.stop_provider()
        await self.webhooks.stop()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.start()
    yield made
    await made.close()


def call(operation: d.Operation.ValueType, method: str, *, minor: int = 8900, hold: str = "") -> d.ProviderCall:
    return d.ProviderCall(
        order=ORDER,
        operation=operation,
        attempt=1,
        amount_minor=minor,
        currency="CNY",
        payment_method=method,
        hold=hold,
    )


async def order(world: World, name: str) -> list[ProviderOutcome]:
    """Holds and settles an order. Returns the outcomes of the calls."""
    method = {"stripe": "stripe_pm_card_ok", "wechat": "wechat_o_ok"}.get(name, "card_ok")
    async with world.adapter(name) as provider:
        begin = d.OPERATION_SALE if name == "wechat" else d.OPERATION_AUTHORISE
        held = await provider.perform(call(begin, method), GROUP)
        hold = held.authorised.hold
        ending = d.OPERATION_REFUND if name == "wechat" else d.OPERATION_CAPTURE
        ended = await provider.perform(call(ending, method, minor=2000, hold=hold), GROUP)
        return [held, ended]


def gist(outcome: ProviderOutcome) -> tuple[object, ...]:
    kind = outcome.WhichOneof("result") or ""
    body = getattr(outcome, kind)
    return outcome.order, outcome.operation, outcome.attempt, kind, body.hold, body.amount_minor


@pytest.mark.parametrize("name", ["simulated", "stripe", "wechat"])
async def test_notifications_match_the_outcomes_of_the_calls(world: World, name: str) -> None:
    answers = await order(world, name)
    received = await world.received(2)
    assert {group for group, _ in received} == {GROUP}
    assert {outcome.origin for _, outcome in received} == {OUTCOME_ORIGIN_NOTIFICATION}
    assert sorted(gist(outcome) for _, outcome in received) == sorted(gist(outcome) for outcome in answers)


async def test_duplicated_and_shuffled_notifications_are_appended_once(world: World) -> None:
    await world.configure(pb.Behaviour(notify_twice_per_mille=1000, notify_shuffle_ms=200))
    await order(world, "stripe")

    async def all_sent() -> bool:
        return world.answers.count(200) >= 4

    await wait_for_async(all_sent, seconds=10)
    # Each copy is acknowledged, and one is appended.
    received = [outcome.SerializeToString() for _, outcome in world.log.records]
    assert len(received) == len(set(received)) == 2


async def test_a_notification_that_could_not_be_appended_is_sent_again(world: World) -> None:
    world.log.away = True
    await order(world, "simulated")
    refused = aiohttp.ClientSession()
    async with refused, refused.get(await world.url("/health")) as answer:
        assert answer.status == 200
    world.log.away = False
    assert len({outcome.SerializeToString() for _, outcome in await world.received(2)}) == 2


async def test_a_restarted_provider_sends_its_pending_notifications(world: World) -> None:
    await world.configure(pb.Behaviour(notify_own=True, notify_late_per_mille=1000, notify_late_ms=700))
    await order(world, "simulated")
    await world.stop_provider()
    assert world.log.records == []
    await world.start_provider()
    assert len(await world.received(2)) == 2


async def test_calls_over_grpc_are_notified_only_if_configured(world: World) -> None:
    await world.configure(pb.Behaviour())
    await order(world, "simulated")
    await order(world, "wechat")
    received = [outcome for _, outcome in await world.received(2)]
    assert not [outcome for outcome in received if "hold_" in str(outcome)]


async def test_unsigned_notifications_are_refused(world: World) -> None:
    async with aiohttp.ClientSession() as session:
        for path, status in (("stripe", 401), ("wechat", 401), ("simulated", 401), ("paypal", 404)):
            async with session.post(await world.url(f"/webhooks/{path}"), data=b"{}") as answer:
                assert (answer.status, (await answer.json())["code"]) == (status, "FAIL")
        async with session.post(await world.url("/webhooks/stripe"), data=b"x" * 200_000) as answer:
            assert answer.status == 413
    assert world.log.records == []


async def test_health_names_the_unavailable_provider(world: World) -> None:
    world.health = {"simulated": True, "stripe": False}
    async with aiohttp.ClientSession() as session, session.get(await world.url("/health")) as answer:
        assert answer.status == 503
        assert (await answer.json())["providers"] == {"simulated": "SERVING", "stripe": "NOT_SERVING"}


async def test_without_an_address_nothing_is_served() -> None:
    webhooks = WebhookServer("", WebhookIngest(notifications_of(), Log(), lambda: 0).ingest, dict)
    await webhooks.start(4)
    assert webhooks.address == ""
    await webhooks.stop()


class Raw:
    """A peer that writes raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return int(head.split()[1]), json.loads(await self.reader.readexactly(int(length.partition(b":")[2])))


@asynccontextmanager
async def raw(world: World, data: bytes = b"") -> AsyncIterator[Raw]:
    host, _, port = world.webhooks.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(30):
            yield Raw(reader, writer)
    finally:
        writer.close()


def posted(*headers: str, path: str = "/webhooks/simulated", body: bytes = b"{}") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"POST /webhooks/simulated HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", 400),
        (posted("Content-Length: 3"), 400),
        (posted("Transfer-Encoding: chunked"), 400),
        (posted(*(f"X-{n}: 1" for n in range(200))), 400),
        (posted("X-Long: " + "x" * 20_000), 400),
        (posted(path="/webhooks/" + "x" * 5_000), 400),
        (posted(path="/webhooks/simulated/../stripe"), 404),
        (posted(path="/webhooks/simulated?x=1"), 404),
        (posted(path="/nothing"), 404),
        (posted(path="/webhooks/"), 404),
        (b"GET /webhooks/simulated HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        (posted("Content-Encoding: gzip"), 415),
        (posted("Content-Length: 99999999999").replace(b"Content-Length: 2\r\n", b""), 413),
        (posted("Transfer-Encoding: chunked", body=b"zz\r\n").replace(b"Content-Length: 4\r\n", b""), 400),
        (posted(), 401),
    ],
)
async def test_malformed_requests_get_an_answer_in_json_and_no_traceback(
    world: World, sent: bytes, status: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with raw(world, sent) as peer:
        got, answer = await peer.answer()
    assert (got, answer["code"]) == (status, "FAIL")
    assert world.log.records == []
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err + caplog.text


async def test_an_incomplete_request_times_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.outside.webhook_connections.HEADERS_S", 0.3)
    monkeypatch.setattr("chassis.outside.webhook_server.BODY_S", 0.3)
    for begun in (b"", b"POST /webhooks/simulated HT", posted()[:-9], posted("X-Half: ")[:-20]):
        async with raw(world, begun) as peer:
            assert await peer.reader.read() == b""
    async with raw(world, posted(body=b"{" + b" " * 1_000)[:-500]) as peer:
        status, answer = await peer.answer()
        assert (status, answer["code"]) == (408, "FAIL")
        assert await peer.reader.read() == b""
    # Between two requests on one connection as well.
    async with raw(world, posted() + b"POST /webhooks/sim") as peer:
        assert (await peer.answer())[0] == 401
        assert await peer.reader.read() == b""


async def test_a_peer_that_reads_no_answers_is_disconnected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.outside.webhook_connections.REQUEST_S", 0.3)
    stuck = asyncio.Event()

    async def take(*_: Any) -> None:
        await stuck.wait()

    world.webhooks._ingest = take
    async with raw(world, posted()) as peer:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await peer.answer()
    stuck.set()


async def test_waiting_connections_are_evicted_for_new_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    capacity = 20
    monkeypatch.setattr("chassis.outside.webhook_connections.MAX_CONNECTIONS", capacity)
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(raw(world, b"POST /webhooks")) for _ in range(3 * capacity)]
        async with raw(world, posted()) as peer:
            assert (await peer.answer())[0] == 401
        for one in silent[: 2 * capacity]:
            with suppress(ConnectionError):
                assert await one.reader.read() == b""


async def test_an_address_above_its_rate_limit_is_told_to_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.outside.webhook_server.PER_ADDRESS", RateLimit(0.01, 3))
    statuses = []
    for sent in (posted(), b"nonsense\r\n\r\n", posted(path="/nothing"), posted(), b"x y z\r\n\r\n", posted()):
        async with raw(world, sent) as peer:
            statuses.append((await peer.answer())[0])
    assert statuses == [401, 400, 404, 429, 429, 429]


async def test_in_secure_mode_health_is_not_served() -> None:
    webhooks = WebhookServer("127.0.0.1:0", WebhookIngest(notifications_of(), Log(), lambda: 0).ingest, None)
    await webhooks.start(4)
    try:
        url = f"http://{webhooks.address}/health"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "FAIL")
    finally:
        await webhooks.stop()
