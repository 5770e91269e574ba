"""Which provider an order's money goes through: it follows from the payment method's prefix; the longest one counts.

The one place to add a provider to. Must never change what a known prefix means while orders with it are under way:
their later calls would reach a provider that never saw their holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from chassis.identity import tls
from services.payments.providers.notifications import Notifications
from services.payments.providers.port import Provider
from services.payments.providers.resolve import Limits
from services.payments.providers.simulator_client.adapter import SimulatedProvider
from services.payments.providers.stripe.adapter import StripeProvider
from services.payments.providers.unconfigured import Unconfigured
from services.payments.providers.wechat import http_client
from services.payments.providers.wechat.adapter import WeChatProvider
from services.payments.providers.wechat.http_client import WeChatClient
from services.payments.settings import PaymentsSettings


class Registry:
    """The providers of a process."""

    def __init__(self, by_prefix: Mapping[str, Provider], default: Provider) -> None:
        """`by_prefix` names prefixes without their last `_`; whatever has none of them goes to `default`."""
        self._by_prefix = sorted(by_prefix.items(), key=lambda one: -len(one[0]))
        self._default = default

    def provider_for(self, payment_method: str) -> Provider:
        """The provider of a payment method."""
        for prefix, provider in self._by_prefix:
            if payment_method.startswith(prefix) and payment_method[len(prefix) : len(prefix) + 1] == "_":
                return provider
        return self._default

    def health(self) -> dict[str, bool]:
        """Of each provider by its name, whether it is asked at present."""
        return {provider.name: provider.well for provider in self._all()}

    async def close(self) -> None:
        """Closes every provider, once."""
        for provider in self._all():
            await provider.close()

    def _all(self) -> list[Provider]:
        providers = [provider for _, provider in self._by_prefix]
        return list({id(one): one for one in (*providers, self._default)}.values())


def simulated(target: str) -> Registry:
    """All payment methods at the simulated provider at `target`, host:port."""
    provider = SimulatedProvider(target)
    return Registry({"card": provider, "wallet": provider}, provider)


def configured(settings: PaymentsSettings) -> Registry:
    """The providers that the settings name.

    Raises ValueError, OSError for keys that can't be used, BadCertificates.
    """
    limits = Limits(try_s=settings.call_seconds, budget_s=2 * settings.call_seconds)
    simulated_provider = SimulatedProvider(
        settings.provider, limits, files=tls.files(settings), expect=settings.provider_identity
    )
    wechat = _wechat(settings, limits)
    by_prefix: dict[str, Provider] = {
        "card": simulated_provider,
        "wallet": simulated_provider,
        "stripe": _stripe(settings, limits),
        "wechat": wechat,
        # Reads as a sale to the purse, which knows wallets by this prefix.
        "wallet_wechat": wechat,
    }
    return Registry(by_prefix, simulated_provider)


def notifications(settings: PaymentsSettings) -> Notifications:
    """Checks notifications by the settings' secrets. Raises ValueError, OSError for keys that can't be used."""
    return Notifications(
        stripe_secret=settings.stripe_webhook_secret.get_secret_value(),
        wechat=_wechat_account(settings),
        simulated_secret=settings.provider_notify_secret.get_secret_value(),
    )


def _stripe(settings: PaymentsSettings, limits: Limits) -> Provider:
    key = settings.stripe_key.get_secret_value()
    if not key:
        return Unconfigured("stripe", settings.variable("stripe_key"))
    return StripeProvider(key, settings.stripe_api_base, return_url=settings.stripe_return_url, limits=limits)


def _wechat(settings: PaymentsSettings, limits: Limits) -> Provider:
    account = _wechat_account(settings)
    if account is None:
        return Unconfigured("wechat", settings.variable("wechat_merchant"))
    client = WeChatClient(account, settings.wechat_api_base)
    return WeChatProvider(client, notify_url=settings.wechat_notify_url, limits=limits)


def _wechat_account(settings: PaymentsSettings) -> http_client.Account | None:
    if settings.wechat_private_key is None or settings.wechat_platform_key is None:
        return None
    return http_client.account(
        merchant=settings.wechat_merchant,
        app=settings.wechat_app,
        serial=settings.wechat_serial,
        platform_serial=settings.wechat_platform_serial,
        private=settings.wechat_private_key,
        platform=settings.wechat_platform_key,
        secret=settings.wechat_apiv3_key.get_secret_value(),
    )
