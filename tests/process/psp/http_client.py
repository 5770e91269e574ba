"""The whole simulator in this process, on free ports, and an HTTP client of Stripe's API and of its gRPC calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from groupbuy.simprovider.v1 import simprovider_pb2_grpc as pb_grpc

from simulators.psp.server import Server
from simulators.psp.settings import Settings
from tests import provider_simulator

FORM = {
    "amount": "8900",
    "currency": "cny",
    "payment_method": "pm_card_ok",
    "capture_method": "manual",
    "confirm": "true",
    "metadata[order]": "a",
    "metadata[group]": "g",
}
NOON_MS = 1_764_504_000_000  # 2025-11-30 20:00 in Beijing.


class Simulator:
    """A running simulator with a manual clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_ms = NOON_MS
        settings = Settings(listen="127.0.0.1:0", http_listen="127.0.0.1:0", database=folder / "books.sqlite")
        self._server = Server(settings, lambda: self.now_ms)
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._address = await self._server.start()
        self.url = f"http://{self._server.http_address}"
        headers = {"Authorization": "Bearer sk_test_simulated"}
        self._session = aiohttp.ClientSession(self.url, headers=headers)
        self._channel = grpc.aio.insecure_channel(self._address)
        self.stub: pb_grpc.SimProviderServiceAsyncStub = pb_grpc.SimProviderServiceStub(self._channel)

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._channel.close(None)
        await self._server.stop(0)

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    async def post(self, path: str, key: str = "k1", /, **form: str) -> tuple[int, Any, Any]:
        """Status, JSON and headers of the answer."""
        async with self.session.post(path, data=form, headers={"Idempotency-Key": key}) as answer:
            return answer.status, await answer.json(), answer.headers

    async def get(self, path: str, **query: str) -> Any:
        """JSON of an answer with status 200."""
        async with self.session.get(path, params=query) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def paid(self, key: str = "k1", **form: str) -> str:
        """Makes a payment by Stripe's API. Returns the intent."""
        made = {**FORM, "capture_method": "automatic", **form}
        status, intent, _ = await self.post("/v1/payment_intents", key, **made)
        assert status == 200, intent
        return str(intent["id"])

    async def configure(self, **behaviour: Any) -> None:
        await provider_simulator.configure(self._address, pb.Behaviour(**behaviour))


@asynccontextmanager
async def simulator(folder: Path) -> AsyncIterator[Simulator]:
    made = Simulator(folder)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
