"""Which provider an order's money goes through: it follows from the payment method's prefix, up to the first `_`.

The one place to add a provider to. Must never change what a known prefix means while orders with it are under way:
their later calls would reach a provider that never saw their holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.payments.providers.base import Provider
from services.payments.providers.simulated_adapter import SimulatedProvider


class Registry:
    """The providers of a process."""

    def __init__(self, by_prefix: Mapping[str, Provider], default: Provider) -> None:
        """`by_prefix` names prefixes without their `_`; whatever has none of them goes to `default`."""
        self._by_prefix = dict(by_prefix)
        self._default = default

    def provider_for(self, payment_method: str) -> Provider:
        """The provider of a payment method."""
        prefix = payment_method.partition("_")[0]
        return self._by_prefix.get(prefix, self._default)

    async def close(self) -> None:
        """Closes every provider, once."""
        for provider in {id(one): one for one in (*self._by_prefix.values(), self._default)}.values():
            await provider.close()


def simulated(target: str) -> Registry:
    """All payment methods at the simulated provider at `target`, host:port."""
    provider = SimulatedProvider(target)
    return Registry({"card": provider, "wallet": provider}, provider)
