"""Rigs of the contract tests: an adapter together with a provider that the tests control.

A new adapter joins the suite with a rig in RIGS. The simulated provider serves the APIs of Stripe and WeChat Pay over
HTTP on this machine; the adapter to Stripe uses Stripe's own SDK.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import grpc
import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from chassis.outside.resolve import RetryPolicy
from services.payments.providers.port import Provider, idempotency_key
from services.payments.providers.simulator_client.adapter import SimulatedProvider
from services.payments.providers.stripe.adapter import StripeProvider
from services.payments.providers.wechat import references
from services.payments.providers.wechat.adapter import WeChatProvider
from services.payments.providers.wechat.client import WeChatClient
from simulators.psp.server import Server
from simulators.psp.settings import Settings
from simulators.psp.wechat import signer
from tests import provider_simulator
from tests.provider_simulator import merchant, stub_of

POLICY = RetryPolicy(attempts=3, attempt_s=1, budget_s=2, wait_s=0.01)
WEBHOOK_URL = "https://shop.invalid/webhooks/wechat"


class Rig(Protocol):
    """An adapter, and the controls of its provider."""

    provider: Provider
    #: Payment methods: one that works, and others whose suffix names the failure.
    ok: str
    declined: str
    declined_at_capture: str
    needs_action: str
    #: The operation that begins a payment: AUTHORISE, or SALE if the provider has no holds.
    begin: d.Operation.ValueType
    #: Amounts in minor units by currency, at the provider's limits.
    amounts: dict[str, int]

    async def confirm(self, call: ProviderCall) -> None:
        """Completes the action of an ACTION_REQUIRED in the shopper's place."""
        ...

    async def configure(self, behaviour: pb.Behaviour) -> None:
        """Sets the provider's behaviour."""
        ...

    async def statement(self) -> list[pb.StatementEntry]:
        """The provider's statement."""
        ...

    async def go_down(self) -> None:
        """Stops the provider."""
        ...

    async def come_back(self) -> None:
        """Starts the provider again at its address, with its data."""
        ...

    async def close(self) -> None:
        """Closes the adapter and stops the provider."""
        ...


class SimulatedRig:
    """The simulated provider, in this process, on free ports."""

    ok = "card_ok"
    declined = "card_declined"
    declined_at_capture = "card_decline_capture"
    needs_action = "card_action"
    begin = d.OPERATION_AUTHORISE
    amounts = {"CNY": 8900, "JPY": 1, "KWD": 1_234_567, "EUR": 2**53 + 1}  # noqa: RUF012
    provider: Provider

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._address = self._http = "127.0.0.1:0"
        self._server: Server | None = None

    async def start(self) -> None:
        await self.come_back()
        self.provider = self.connected()

    def connected(self) -> Provider:
        """The adapter to this rig's provider."""
        return SimulatedProvider(self._address, POLICY)

    @property
    def url(self) -> str:
        """Base URL of the provider's HTTP APIs."""
        return f"http://{self._http}"

    @property
    def keys(self) -> Path:
        """Directory with the keys of WeChat Pay's merchant."""
        return self._directory / "wechat_keys"

    def key(self, call: ProviderCall) -> str:
        """The key of a call in the provider's accounts."""
        return idempotency_key(call)

    async def confirm(self, call: ProviderCall) -> None:
        async with grpc.aio.insecure_channel(self._address) as channel:
            await stub_of(channel).Confirm(pb.ConfirmRequest(key=self.key(call)), timeout=5)

    async def configure(self, behaviour: pb.Behaviour) -> None:
        await provider_simulator.configure(self._address, behaviour)

    async def statement(self) -> list[pb.StatementEntry]:
        async with grpc.aio.insecure_channel(self._address) as channel:
            return [entry async for entry in stub_of(channel).ExportStatement(pb.ExportStatementRequest(), timeout=5)]

    async def go_down(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def come_back(self) -> None:
        database = self._directory / "books.sqlite"
        self._server = Server(Settings(listen=self._address, http_listen=self._http, database=database))
        self._address = await self._server.start()
        self._http = self._server.http_address

    async def close(self) -> None:
        await self.provider.close()
        await self.go_down()


class StripeRig(SimulatedRig):
    """Stripe's SDK against the simulated provider's HTTP."""

    ok = "stripe_pm_card_ok"
    declined = "stripe_pm_card_declined"
    declined_at_capture = "stripe_pm_card_decline_capture"
    needs_action = "stripe_pm_card_action"
    amounts = {"CNY": 8900, "JPY": 50, "KWD": 1_234_560, "EUR": 99_999_999}  # noqa: RUF012

    def connected(self) -> Provider:
        return StripeProvider("sk_test_simulated", self.url, policy=POLICY)


class WeChatRig(SimulatedRig):
    """The client of WeChat Pay against the simulated provider's HTTP."""

    ok = "wechat_o_ok"
    declined = "wechat_o_declined"
    declined_at_capture = "wechat_o_decline_capture"
    needs_action = "wechat_o_action"
    begin = d.OPERATION_SALE
    amounts = {"CNY": 8900}  # noqa: RUF012

    def connected(self) -> Provider:
        return WeChatProvider(WeChatClient(merchant(self.keys), self.url), notify_url=WEBHOOK_URL, policy=POLICY)

    def key(self, call: ProviderCall) -> str:
        return references.trade_number(call)


RIGS = {"simulated": SimulatedRig, "stripe": StripeRig, "wechat": WeChatRig}
#: Rigs of providers with holds.
HOLDING = ("simulated", "stripe")


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path, wechat_keys: Path) -> AsyncIterator[Rig]:
    made = RIGS[request.param](tmp_path)
    (tmp_path / "wechat_keys").symlink_to(wechat_keys)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def holding(rig: Rig) -> Rig:
    """A rig of a provider with holds."""
    return rig


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test with each rig, and tests of holds with the rigs in HOLDING."""
    if "rig" in metafunc.fixturenames:
        metafunc.parametrize("rig", HOLDING if "holding" in metafunc.fixturenames else sorted(RIGS), indirect=True)


@pytest.fixture(scope="session")
def wechat_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys for all tests of a session: generating them takes a while."""
    directory = tmp_path_factory.mktemp("wechat")
    signer.Signer(directory)
    return directory
