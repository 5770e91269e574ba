"""Settings of the payments service: variables GROUPBUY_PAYMENTS_*. Must hold nothing but values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, FilePath, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from chassis.identity.peer_identity import SpiffeId
from chassis.lifecycle.settings import HostPort, Instance, ServiceSettings

Url = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]
MaybeUrl = Annotated[str, Field(pattern=r"^(https?://\S+)?$")]
MaybeHostPort = Annotated[str, Field(pattern=r"^(.+:\d{1,5})?$")]

#: What an account at WeChat Pay is made of, beside where it notifies.
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
    """The chassis' settings with the defaults of this service, and the accounts at payment providers."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_PAYMENTS_")
    service: ClassVar[str] = "payments"

    listen: HostPort = "127.0.0.1:50053"
    state_dir: Path = Path(".run/state/payments")
    instance: Instance = "payments-0"
    #: How long a provider may take to answer one try of a call; all tries together get twice as long.
    call_seconds: Annotated[float, Field(gt=0, le=30)] = 5.0
    #: The simulated provider.
    provider: HostPort = "127.0.0.1:50054"
    #: Whom to expect there, where calls are encrypted: with any other certificate the provider is not called.
    provider_identity: SpiffeId = "spiffe://groupbuy.internal/service/provider"
    #: Checks notifications of the simulated provider. Empty: they are refused.
    provider_notify_secret: SecretStr = SecretStr("")
    #: Where providers' webhooks are taken over HTTP: POST /webhooks/{provider}. Empty: nowhere.
    webhook_listen: MaybeHostPort = ""

    #: The secret key of our account at Stripe. Empty: its payment methods are declined.
    stripe_key: SecretStr = SecretStr("")
    stripe_api_base: Url = "https://api.stripe.com"
    #: Checks Stripe's webhooks. Empty: they are refused.
    stripe_webhook_secret: SecretStr = SecretStr("")
    #: Where shoppers go after they confirmed a payment on a page of Stripe's.
    stripe_return_url: MaybeUrl = ""

    #: Our account at WeChat Pay: all of these, or none, and then its payment methods are declined.
    wechat_merchant: str = ""
    wechat_app: str = ""
    #: Serial number of the merchant's certificate, and its private key in PEM.
    wechat_serial: str = ""
    wechat_private_key: FilePath | None = None
    #: Id of WeChat Pay's public key, and the key in PEM.
    wechat_platform_serial: str = ""
    wechat_platform_key: FilePath | None = None
    #: The APIv3 key, 32 bytes: opens what WeChat Pay encrypts.
    wechat_apiv3_key: SecretStr = SecretStr("")
    wechat_api_base: Url = "https://api.mch.weixin.qq.com"
    #: Where WeChat Pay sends notifications, as it is seen from there.
    wechat_notify_url: Annotated[MaybeUrl, Field(validate_default=True)] = ""

    @field_validator("wechat_notify_url")
    @classmethod
    def _wechat_is_whole(cls, value: str, info: ValidationInfo) -> str:
        # Not a validator of the whole model: its error would show every value, secrets among them.
        parts = {name: info.data.get(name) for name in _WECHAT} | {"wechat_notify_url": value}
        missing = [cls.variable(name) for name, part in parts.items() if not _text(part)]
        if missing and len(missing) < len(parts):
            raise ValueError(f"the account at WeChat Pay is not whole: {', '.join(missing)} not set")
        return value


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
