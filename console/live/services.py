"""The services that the console calls: their channels, and whether they answer.

A health stream to each service ends when the service does, so the pages say within a moment that it is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from chassis.identity.tls import CertificateFiles, RotatingChannel
from chassis.rpc.client_config.channel_options import options
from console.settings import ConsoleSettings
from console.web.templates import fragment

log = logging.getLogger(__name__)

#: The name of the channel to the inventory service.
INVENTORY = "inventory"
#: Seconds between two attempts to open a health stream.
_RETRY_S = 0.3
#: Deadline of a call, in seconds.
CALL_S = 3.0


class Services:
    """The groups and the payments service, and the inventory service if it has an address."""

    def __init__(self, settings: ConsoleSettings, files: CertificateFiles | None) -> None:
        """Connects on first use."""
        made = options(retries=False)
        self.channels = {
            "groups": RotatingChannel(settings.groups, files, settings.groups_identity, made),
            "payments": RotatingChannel(settings.payments, files, settings.payments_identity, made),
        }
        if settings.inventory:
            self.channels[INVENTORY] = RotatingChannel(settings.inventory, files, settings.inventory_identity, made)
        #: Whether each service answers, since the first answer or failure.
        self.serving: dict[str, bool] = {}
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls `listener` when a service goes away or comes back."""
        self._listeners.append(listener)

    def channel(self, name: str) -> grpc.aio.Channel:
        """The channel to a service."""
        return self.channels[name].channel()

    def notice(self) -> str:
        """The HTML of the line about services that are away; empty if all answer."""
        return fragment(
            "macros.html", "notice", [name for name, serving in sorted(self.serving.items()) if not serving]
        )

    async def follow(self) -> None:
        """Follows the health of all services until it is cancelled."""
        await asyncio.gather(*(self._follow(name) for name in self.channels))

    async def _follow(self, name: str) -> None:
        while True:
            try:
                async for answer in HealthStub(self.channel(name)).Watch(HealthCheckRequest()):
                    self._set(name, serving=answer.status == HealthCheckResponse.SERVING)
            except grpc.aio.AioRpcError as error:
                if self.serving.get(name, True):
                    log.warning("the %s service is away: %s", name, error.code().name)
            self._set(name, serving=False)
            await asyncio.sleep(_RETRY_S)

    def _set(self, name: str, *, serving: bool) -> None:
        if self.serving.get(name) is not serving:
            self.serving[name] = serving
            for listener in self._listeners:
                listener()

    async def close(self) -> None:
        """Closes the connections."""
        for channel in self.channels.values():
            await channel.close()
