"""The providers of a process, chosen by payment method: the longest matching prefix decides.

The one place to add a provider to, with its prefixes and capabilities in shared_kernel/payment_providers.py. A prefix
keeps its provider while orders with it are open, since their later calls refer to holds of that provider. There is no
default: a method without a known prefix has no provider, and the simulated provider exists only if a setting names it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from chassis.identity import tls
from chassis.outside.resolve import RetryPolicy
from services.payments.providers.call_limiter import CallLimiter
from services.payments.providers.credentials import Secrets
from services.payments.providers.notifications import Notifications, WebhookReader
from services.payments.providers.port import Locates, Provider
from services.payments.providers.simulator_client.adapter import SimulatedProvider
from services.payments.providers.simulator_client.webhooks import SimulatorWebhooks
from services.payments.providers.stripe.adapter import StripeProvider
from services.payments.providers.stripe.calls import CallSettings
from services.payments.providers.stripe.credentials import is_live
from services.payments.providers.stripe.webhooks import StripeWebhooks
from services.payments.providers.unconfigured import UNKNOWN_PROVIDER, Unconfigured
from services.payments.providers.wechat.adapter import WeChatProvider
from services.payments.providers.wechat.client import WeChatClient
from services.payments.providers.wechat.merchant_account import MerchantAccount
from services.payments.providers.wechat.webhooks import WeChatWebhooks
from services.payments.settings import PaymentsSettings
from shared_kernel.payment_providers import SIMULATED, STRIPE, WECHAT, provider_of


class Registry:
    """The providers of a process."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        self._by_name = {provider.name: provider for provider in providers}
        self._none = Unconfigured(UNKNOWN_PROVIDER, "the payment method belongs to no payment provider")

    def provider_for(self, payment_method: str) -> Provider:
        """The provider of a payment method. Without one, calls that begin a payment are declined."""
        return self._by_name.get(provider_of(payment_method), self._none)

    def locators(self) -> dict[str, Locates]:
        """The providers that can be asked which order a hold is of, by name."""
        return {name: provider for name, provider in self._by_name.items() if isinstance(provider, Locates)}

    def health(self) -> dict[str, bool]:
        """Whether each provider, by name, is available."""
        return {provider.name: provider.available for provider in self._by_name.values()}

    async def close(self) -> None:
        """Closes each provider."""
        for provider in self._by_name.values():
            await provider.close()


def simulated(target: str) -> Registry:
    """A registry with the simulated provider at `target`, host:port, and no other."""
    return Registry([SimulatedProvider(target)])


def configured(settings: PaymentsSettings) -> Registry:
    """The providers named in the settings. Raises BadCredential, OSError for unusable keys, BadCertificates."""
    policy = RetryPolicy(attempt_s=settings.call_seconds, budget_s=2 * settings.call_seconds)
    return Registry([_simulated(settings, policy), _stripe(settings, policy), _wechat(settings, policy)])


def notifications(settings: PaymentsSettings, locators: Mapping[str, Locates] | None = None) -> Notifications:
    """Readers of the notifications whose secrets are set. Raises BadCredential, OSError for unusable keys."""
    stripe_secrets = settings.stripe_webhook_secrets()
    stripe_key = settings.stripe_keys()
    return notifications_of(
        stripe_secrets=stripe_secrets.all if stripe_secrets else None,
        stripe_live=(lambda: is_live(stripe_key.first())) if stripe_key else None,
        wechat=wechat_account(settings),
        simulated_secret=settings.provider_notify_secret.get_secret_value() if settings.provider else "",
        environment=settings.environment,
        locators=locators,
    )


def notifications_of(
    *,
    stripe_secrets: Callable[[], tuple[str, ...]] | None = None,
    stripe_live: Callable[[], bool] | None = None,
    wechat: MerchantAccount | None = None,
    simulated_secret: str = "",
    environment: str = "",
    locators: Mapping[str, Locates] | None = None,
    now_s: Callable[[], float] = time.time,
) -> Notifications:
    """Readers of the notifications of each provider with a secret."""
    readers: dict[str, WebhookReader] = {}
    if simulated_secret:
        readers[SIMULATED] = SimulatorWebhooks(lambda: (simulated_secret,), now_s)
    if stripe_secrets is not None:
        readers[STRIPE] = StripeWebhooks(stripe_secrets, now_s, stripe_live)
    if wechat is not None:
        readers[WECHAT] = WeChatWebhooks(wechat, now_s, environment)
    return Notifications(readers, locators, environment)


def _simulated(settings: PaymentsSettings, policy: RetryPolicy) -> Provider:
    if not settings.provider:
        return Unconfigured.without_setting(SIMULATED, settings.variable("provider"))
    return SimulatedProvider(
        settings.provider,
        policy,
        files=tls.certificate_files(settings),
        expect=settings.provider_identity,
        environment=settings.environment,
    )


def _stripe(settings: PaymentsSettings, policy: RetryPolicy) -> Provider:
    keys: Secrets = settings.stripe_keys()
    if not keys:
        return Unconfigured.without_setting(STRIPE, settings.variable("stripe_key"))
    return StripeProvider(
        keys.first,
        settings.stripe_api_base,
        settings=CallSettings(
            return_url=settings.stripe_return_url,
            environment=settings.environment,
            extended=settings.stripe_extended_authorization,
        ),
        policy=policy,
        limiter=CallLimiter(settings.stripe_calls_per_second),
    )


def _wechat(settings: PaymentsSettings, policy: RetryPolicy) -> Provider:
    account = wechat_account(settings)
    if account is None:
        return Unconfigured.without_setting(WECHAT, settings.variable("wechat_merchant"))
    return WeChatProvider(
        WeChatClient(account, settings.wechat_api_base),
        notify_url=settings.wechat_notify_url,
        environment=settings.environment,
        policy=policy,
        limiter=CallLimiter(settings.wechat_calls_per_second),
    )


def wechat_account(settings: PaymentsSettings) -> MerchantAccount | None:
    """The account at WeChat Pay; None: the settings have none."""
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
        api_v3_key_file=settings.wechat_apiv3_key_file,
    )
