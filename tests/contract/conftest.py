"""A provider's adapter together with its provider, which the contract's tests can steer: one Rig for each adapter.

Another adapter joins the suite by a Rig of its own in RIGS.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import grpc
import pytest
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from groupbuy.simprovider.v1 import simprovider_pb2_grpc as pb_grpc

from services.payments.providers.base import Provider, idempotency_key
from services.payments.providers.resolve import Limits
from services.payments.providers.simulated.server import Server
from services.payments.providers.simulated.settings import Settings
from services.payments.providers.simulated_adapter import SimulatedProvider


class Rig(Protocol):
    """What the contract's tests need beside the adapter."""

    provider: Provider
    #: Tokens of payment methods: a good one, and those whose suffix says what goes wrong.
    ok: str
    declined: str
    declined_at_capture: str
    needs_action: str

    async def confirm(self, call: ProviderCall) -> None:
        """The shopper does what an ACTION_REQUIRED asked for."""
        ...

    async def behave(self, behaviour: pb.Behaviour) -> None:
        """The provider behaves so from now on."""
        ...

    async def statement(self) -> list[pb.StatementEntry]:
        """The provider's own books."""
        ...

    async def go_down(self) -> None:
        """The provider can't be reached."""
        ...

    async def come_back(self) -> None:
        """The provider is there again, where it was and as it was."""
        ...

    async def close(self) -> None:
        """Ends everything."""
        ...


class SimulatedRig:
    """The simulated provider, in this process, on a free port."""

    ok = "card_ok"
    declined = "card_declined"
    declined_at_capture = "card_decline_capture"
    needs_action = "card_action"

    def __init__(self, database: Path) -> None:
        self._database = database
        self._address = "127.0.0.1:0"
        self._server: Server | None = None

    async def start(self) -> None:
        await self.come_back()
        self.provider: Provider = SimulatedProvider(self._address, Limits(tries=3, try_s=1, budget_s=2, wait_s=0.01))

    async def confirm(self, call: ProviderCall) -> None:
        async with grpc.aio.insecure_channel(self._address) as channel:
            await _stub(channel).Confirm(pb.ConfirmRequest(key=idempotency_key(call)), timeout=5)

    async def behave(self, behaviour: pb.Behaviour) -> None:
        async with grpc.aio.insecure_channel(self._address) as channel:
            await _stub(channel).Configure(pb.ConfigureRequest(behaviour=behaviour), timeout=5)

    async def statement(self) -> list[pb.StatementEntry]:
        async with grpc.aio.insecure_channel(self._address) as channel:
            return [entry async for entry in _stub(channel).ExportStatement(pb.ExportStatementRequest(), timeout=5)]

    async def go_down(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def come_back(self) -> None:
        self._server = Server(Settings(listen=self._address, database=self._database))
        self._address = await self._server.start()

    async def close(self) -> None:
        await self.provider.close()
        await self.go_down()


def _stub(channel: grpc.aio.Channel) -> pb_grpc.SimProviderServiceAsyncStub:
    return pb_grpc.SimProviderServiceStub(channel)


async def _simulated(directory: Path) -> Rig:
    rig = SimulatedRig(directory / "books.sqlite")
    await rig.start()
    return rig


RIGS = {"simulated": _simulated}


@pytest.fixture(params=sorted(RIGS))
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = await RIGS[request.param](tmp_path)
    yield made
    await made.close()
