"""Settings of the payments service: environment variables GROUPBUY_PAYMENTS_*."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, FilePath, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from chassis.identity.peer_identity import SpiffeId
from chassis.lifecycle.settings import HostPort, Instance, MaybeHostPort, ServiceSettings
from chassis.lifecycle.variables import Shape

Url = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$"), Shape("URL")]
MaybeUrl = Annotated[str, Field(pattern=r"^(https?://\S+)?$"), Shape("URL")]

#: Settings that a WeChat Pay account needs, besides wechat_notify_url.
_WECHAT = (
    "wechat_merchant",
    "wechat_app",
    "wechat_serial",
    "wechat_private_key",
    "wechat_platform_serial",
    "wechat_platform_key",
    "wechat_apiv3_key",
)


class PaymentsSettings(ServiceSettings):
    """The settings of every service, with this service's defaults, and the accounts at payment providers."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_PAYMENTS_")
    service: ClassVar[str] = "payments"

    listen: HostPort = "127.0.0.1:50053"
    state_dir: Path = Path(".run/state/payments")
    instance: Instance = "payments-0"
    #: Seconds that a provider may take for one attempt of a call; all attempts together get twice as long.
    call_seconds: Annotated[float, Field(gt=0, le=30)] = 5.0
    #: Address of the simulated provider.
    provider: HostPort = "127.0.0.1:50054"
    #: SPIFFE id in the simulated provider's certificate, with TLS. A provider with another certificate is not called.
    provider_identity: SpiffeId = "spiffe://groupbuy.internal/service/provider"
    #: Secret that verifies notifications of the simulated provider. Empty: they are refused.
    provider_notify_secret: SecretStr = SecretStr("")
    #: HTTP address that accepts providers' webhooks, POST /webhooks/{provider}. Empty: none are accepted.
    webhook_listen: MaybeHostPort = ""

    #: Secret key of the Stripe account. Empty: its payment methods are declined.
    stripe_key: SecretStr = SecretStr("")
    #: Base of Stripe's API.
    stripe_api_base: Url = "https://api.stripe.com"
    #: Secret that verifies Stripe's webhooks. Empty: they are refused.
    stripe_webhook_secret: SecretStr = SecretStr("")
    #: Page to which Stripe sends shoppers after they confirmed a payment.
    stripe_return_url: MaybeUrl = ""

    #: Merchant number of the WeChat Pay account. Set all wechat variables without a default, or none. With none, its
    #: payment methods are declined.
    wechat_merchant: str = ""
    #: Id of the app that the merchant number is bound to.
    wechat_app: str = ""
    #: Serial number of the merchant's certificate.
    wechat_serial: str = ""
    #: PEM file: the private key of the merchant's certificate.
    wechat_private_key: FilePath | None = None
    #: Id of WeChat Pay's public key.
    wechat_platform_serial: str = ""
    #: PEM file: WeChat Pay's public key.
    wechat_platform_key: FilePath | None = None
    #: The APIv3 key, 32 bytes; it decrypts notifications.
    wechat_apiv3_key: SecretStr = SecretStr("")
    #: Base of WeChat Pay's API.
    wechat_api_base: Url = "https://api.mch.weixin.qq.com"
    #: Public URL to which WeChat Pay sends notifications.
    wechat_notify_url: Annotated[MaybeUrl, Field(validate_default=True)] = ""

    @field_validator("wechat_notify_url")
    @classmethod
    def _check_wechat_complete(cls, value: str, info: ValidationInfo) -> str:
        # A field validator, since the error of a model validator would show every value, secrets included.
        parts = {name: info.data.get(name) for name in _WECHAT} | {"wechat_notify_url": value}
        missing = [cls.variable(name) for name, part in parts.items() if not _text(part)]
        if missing and len(missing) < len(parts):
            raise ValueError(f"the WeChat Pay account is incomplete: {', '.join(missing)} not set")
        return value


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
