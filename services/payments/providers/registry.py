"""The providers of a process, chosen by payment method: the longest matching prefix decides.

The one place to add a provider to. A prefix keeps its provider while orders with it are open, since their later calls
refer to holds of that provider.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from chassis.identity import tls
from chassis.outside.resolve import RetryPolicy
from services.payments.providers.notifications import Notifications, WebhookReader
from services.payments.providers.port import Provider
from services.payments.providers.simulator_client.adapter import SimulatedProvider
from services.payments.providers.simulator_client.webhooks import SimulatorWebhooks
from services.payments.providers.stripe.adapter import StripeProvider
from services.payments.providers.stripe.webhooks import StripeWebhooks
from services.payments.providers.unconfigured import Unconfigured
from services.payments.providers.wechat.adapter import WeChatProvider
from services.payments.providers.wechat.client import WeChatClient
from services.payments.providers.wechat.merchant_account import MerchantAccount
from services.payments.providers.wechat.webhooks import WeChatWebhooks
from services.payments.settings import PaymentsSettings


class Registry:
    """The providers of a process."""

    def __init__(self, by_prefix: Mapping[str, Provider], default: Provider) -> None:
        """`by_prefix` has prefixes without their final `_`; methods without any of them go to `default`."""
        self._by_prefix = sorted(by_prefix.items(), key=lambda one: -len(one[0]))
        self._default = default

    def provider_for(self, payment_method: str) -> Provider:
        """The provider of a payment method."""
        for prefix, provider in self._by_prefix:
            if payment_method.startswith(prefix) and payment_method[len(prefix) : len(prefix) + 1] == "_":
                return provider
        return self._default

    def health(self) -> dict[str, bool]:
        """Whether each provider, by name, is available."""
        return {provider.name: provider.available for provider in self._all()}

    async def close(self) -> None:
        """Closes each provider once."""
        for provider in self._all():
            await provider.close()

    def _all(self) -> list[Provider]:
        providers = [provider for _, provider in self._by_prefix]
        return list({id(one): one for one in (*providers, self._default)}.values())


def simulated(target: str) -> Registry:
    """A registry with all payment methods at the simulated provider at `target`, host:port."""
    provider = SimulatedProvider(target)
    return Registry({"card": provider, "wallet": provider}, provider)


def configured(settings: PaymentsSettings) -> Registry:
    """The providers named in the settings.

    Raises ValueError, OSError for unusable keys, BadCertificates.
    """
    policy = RetryPolicy(attempt_s=settings.call_seconds, budget_s=2 * settings.call_seconds)
    simulated_provider = SimulatedProvider(
        settings.provider, policy, files=tls.certificate_files(settings), expect=settings.provider_identity
    )
    wechat = _wechat(settings, policy)
    by_prefix: dict[str, Provider] = {
        "card": simulated_provider,
        "wallet": simulated_provider,
        "stripe": _stripe(settings, policy),
        "wechat": wechat,
        # The payments domain makes sales of methods with the prefix `wallet`.
        "wallet_wechat": wechat,
    }
    return Registry(by_prefix, simulated_provider)


def notifications(settings: PaymentsSettings) -> Notifications:
    """Readers of the notifications whose secrets are set. Raises ValueError, OSError for unusable keys."""
    return notifications_of(
        stripe_secret=settings.stripe_webhook_secret.get_secret_value(),
        wechat=_wechat_account(settings),
        simulated_secret=settings.provider_notify_secret.get_secret_value(),
    )


def notifications_of(
    *,
    stripe_secret: str = "",
    wechat: MerchantAccount | None = None,
    simulated_secret: str = "",
    now_s: Callable[[], float] = time.time,
) -> Notifications:
    """Readers of the notifications of each provider with a secret."""
    readers: dict[str, WebhookReader] = {}
    if simulated_secret:
        readers["simulated"] = SimulatorWebhooks(simulated_secret, now_s)
    if stripe_secret:
        readers["stripe"] = StripeWebhooks(stripe_secret, now_s)
    if wechat is not None:
        readers["wechat"] = WeChatWebhooks(wechat, now_s)
    return Notifications(readers)


def _stripe(settings: PaymentsSettings, policy: RetryPolicy) -> Provider:
    key = settings.stripe_key.get_secret_value()
    if not key:
        return Unconfigured("stripe", settings.variable("stripe_key"))
    return StripeProvider(key, settings.stripe_api_base, return_url=settings.stripe_return_url, policy=policy)


def _wechat(settings: PaymentsSettings, policy: RetryPolicy) -> Provider:
    account = _wechat_account(settings)
    if account is None:
        return Unconfigured("wechat", settings.variable("wechat_merchant"))
    client = WeChatClient(account, settings.wechat_api_base)
    return WeChatProvider(client, notify_url=settings.wechat_notify_url, policy=policy)


def _wechat_account(settings: PaymentsSettings) -> MerchantAccount | None:
    if settings.wechat_private_key is None or settings.wechat_platform_key is None:
        return None
    return MerchantAccount.load(
        merchant_id=settings.wechat_merchant,
        app_id=settings.wechat_app,
        serial=settings.wechat_serial,
        platform_serial=settings.wechat_platform_serial,
        private_key=settings.wechat_private_key,
        platform_key=settings.wechat_platform_key,
        api_v3_key=settings.wechat_apiv3_key.get_secret_value(),
    )
