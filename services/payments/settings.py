"""Settings of the payments service: environment variables GROUPBUY_PAYMENTS_*.

Credentials are checked here, so that one that can't be right ends the start with code 2 and names its variable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, FilePath, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from chassis.identity.access_settings import SENTENCE
from chassis.identity.peer_identity import SpiffeId
from chassis.lifecycle.settings import HostPort, Instance, MaybeHostPort, ServiceSettings
from chassis.lifecycle.variables import Shape
from services.payments.domain.rules_version import CURRENT, FIRST
from services.payments.providers.credentials import BadCredential, Check, Secrets, read_secrets, split_secrets
from services.payments.providers.stripe import credentials as stripe
from services.payments.providers.wechat.key_files import KeyFiles, load_platform_key, load_private_key
from services.payments.providers.wechat.merchant_account import check_api_v3_key

Url = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$"), Shape("URL")]
MaybeUrl = Annotated[str, Field(pattern=r"^(https?://\S+)?$"), Shape("URL")]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ValueError("is neither a file nor a directory")
    return path


FileOrDirectory = Annotated[Path, AfterValidator(_existing)]

#: Settings that a WeChat Pay account needs, besides wechat_notify_url.
_WECHAT = ("wechat_merchant", "wechat_app", "wechat_private_key", "wechat_platform_key")
#: Settings that are needed if the setting beside them is a file and not a directory.
_SERIALS = {"wechat_serial": "wechat_private_key", "wechat_platform_serial": "wechat_platform_key"}
_SECRET_CHECKS: dict[str, Check] = {
    "stripe_key": stripe.check_key,
    "stripe_webhook_secret": stripe.check_webhook_secret,
    "wechat_apiv3_key": check_api_v3_key,
}


class PaymentsSettings(ServiceSettings):
    """The settings of every service, with this service's defaults, and the accounts at payment providers."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_PAYMENTS_")
    service: ClassVar[str] = "payments"

    listen: HostPort = "127.0.0.1:50053"
    state_dir: Path = Path(".run/state/payments")
    instance: Instance = "payments-0"
    #: Id of this deployment at the payment providers, in the metadata of each call. Data with another id is ignored
    #: and counted. Two deployments that share an account need two ids.
    environment: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,32}$")
    #: Whether real money moves. With true, test keys and the simulated provider are refused at the start; with false,
    #: live keys are. By default neither is checked.
    live: bool | None = None
    #: Version of the payment rules that new groups get. Set 1 while a process of a build before 0.2.0 runs, which stops
    #: at what version 2 writes; remove it once every process of every service is replaced. With 1, repairs are refused,
    #: and notifications of disputes and the like are left for the provider to send again.
    rules_version: int = Field(default=CURRENT, ge=FIRST, le=CURRENT)
    #: Returns of unexpected funds that a process makes in one hour by itself; an operator approves further ones. 0:
    #: none, for instance after a log was restored to an earlier time.
    returns_per_hour: int = Field(default=60, ge=0)
    #: Hours after which the hold of a seat is checked at the provider, 15 minutes before its group's deadline.
    #: A hold that ended costs the member its seat while others can still join. 0: no hold is checked.
    check_holds_after_hours: float = Field(default=24.0, ge=0)
    #: Seconds that a provider may take for one attempt of a call; all attempts together get twice as long.
    call_seconds: Annotated[float, Field(gt=0, le=30)] = 5.0
    #: Address of the simulated provider, which moves no money. Empty: its payment methods, card_ and wallet_, are
    #: declined.
    provider: MaybeHostPort = ""
    #: SPIFFE id in the simulated provider's certificate, with TLS. A provider with another certificate is not called.
    provider_identity: SpiffeId = "spiffe://groupbuy.internal/service/provider"
    #: Secret that verifies notifications of the simulated provider. Empty: they are refused.
    provider_notify_secret: SecretStr = SecretStr("")
    #: HTTP address that accepts providers' webhooks, POST /webhooks/{provider}. Empty: none are accepted.
    webhook_listen: MaybeHostPort = ""

    #: Base of Stripe's API.
    stripe_api_base: Url = "https://api.stripe.com"
    #: Secret key of the Stripe account. Empty: its payment methods are declined.
    stripe_key: SecretStr = SecretStr("")
    #: File with the secret key, in place of the key itself. It is read again when it changes.
    stripe_key_file: FilePath | None = None
    #: Secrets that verify Stripe's webhooks, several separated by commas while they rotate. Empty: they are refused.
    stripe_webhook_secret: SecretStr = SecretStr("")
    #: File with these secrets, one a line, in place of the secrets themselves. It is read again when it changes.
    stripe_webhook_secret_file: FilePath | None = None
    #: Page to which Stripe sends shoppers after they confirmed a payment.
    stripe_return_url: MaybeUrl = ""
    #: Whether holds ask Stripe for an extended authorisation. Stripe refuses holds of an account without this feature.
    stripe_extended_authorization: bool = False
    #: Requests to Stripe in one second and process; further ones wait. Stripe allows an account 100. 0: no limit.
    stripe_calls_per_second: float = Field(default=80.0, ge=0)

    #: Base of WeChat Pay's API.
    wechat_api_base: Url = "https://api.mch.weixin.qq.com"
    #: Merchant number of the WeChat Pay account. Set all wechat variables without a default, or none. With none, its
    #: payment methods are declined.
    wechat_merchant: str = Field(default="", pattern=r"^(\d{8,10})?$")
    #: Id of the app that the merchant number is bound to.
    wechat_app: str = Field(default="", pattern=r"^(wx[0-9A-Za-z]{16})?$")
    #: Serial number of the merchant's certificate. Not needed with a directory of keys.
    wechat_serial: str = Field(default="", pattern=r"^([0-9A-Fa-f]{8,40})?$")
    #: PEM file: the private key of the merchant's certificate; or a directory of files `{serial}.pem`, of which the
    #: newest signs. The files are read again when they change.
    wechat_private_key: FileOrDirectory | None = None
    #: Id of WeChat Pay's public key, or serial number of its certificate. Not needed with a directory of keys.
    wechat_platform_serial: str = Field(default="", pattern=r"^([0-9A-Za-z_]{8,64})?$")
    #: PEM file: WeChat Pay's public key or certificate; or a directory of files `{serial}.pem`, each of which verifies.
    #: The files are read again when they change.
    wechat_platform_key: FileOrDirectory | None = None
    #: The APIv3 key, 32 bytes; it decrypts notifications. Several separated by commas while they rotate.
    wechat_apiv3_key: SecretStr = SecretStr("")
    #: File with these keys, one a line, in place of the keys themselves. It is read again when it changes.
    wechat_apiv3_key_file: FilePath | None = None
    #: Requests to WeChat Pay in one second and process; further ones wait. 0: no limit.
    wechat_calls_per_second: float = Field(default=100.0, ge=0)
    #: Public URL to which WeChat Pay sends notifications.
    wechat_notify_url: Annotated[MaybeUrl, Field(validate_default=True)] = ""

    def stripe_keys(self) -> Secrets:
        """The secret key of the Stripe account. Raises BadCredential, OSError."""
        return Secrets(self.stripe_key.get_secret_value(), self.stripe_key_file, stripe.check_key)

    def stripe_webhook_secrets(self) -> Secrets:
        """The secrets of Stripe's webhooks. Raises BadCredential, OSError."""
        text = self.stripe_webhook_secret.get_secret_value()
        return Secrets(text, self.stripe_webhook_secret_file, stripe.check_webhook_secret)

    # Field validators, since the error of a model validator would show every value, secrets included.

    @field_validator(*_SECRET_CHECKS)
    @classmethod
    def _check_secret(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        name = str(info.field_name)
        try:
            found = split_secrets(value.get_secret_value(), _SECRET_CHECKS[name])
        except BadCredential as error:
            raise cls._refused(name, str(error)) from None
        cls._check_mode(name, found, info)
        return value

    @field_validator(*(f"{name}_file" for name in _SECRET_CHECKS))
    @classmethod
    def _check_secret_file(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return None
        file_name = str(info.field_name)
        name = file_name.removesuffix("_file")
        other = info.data.get(name)
        if isinstance(other, SecretStr) and other.get_secret_value():
            raise cls._refused(file_name, f"is set beside {cls.variable(name)}: set one of them")
        try:
            found = read_secrets(value, _SECRET_CHECKS[name])
        except BadCredential as error:
            raise cls._refused(file_name, f"names {value}, which {error}") from None
        except OSError as error:
            raise cls._refused(file_name, f"names {value}, which can't be read: {error.strerror}") from None
        cls._check_mode(name, found, info)
        return value

    @classmethod
    def _check_mode(cls, name: str, found: tuple[str, ...], info: ValidationInfo) -> None:
        live = info.data.get("live")
        if name != "stripe_key" or live is None or not found:
            return
        if stripe.is_live(found[0]) != live:
            mode, setting = ("a test", "true") if live else ("a live", "false")
            raise cls._refused(str(info.field_name), f"holds {mode} key, but {cls.variable('live')} is {setting}")

    @field_validator("provider")
    @classmethod
    def _check_simulated(cls, value: str, info: ValidationInfo) -> str:
        if value and info.data.get("live"):
            raise cls._refused("provider", f"names the simulated provider, but {cls.variable('live')} is true")
        return value

    @field_validator("stripe_api_base", "wechat_api_base")
    @classmethod
    def _check_base(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("live") and not value.startswith("https://"):
            raise cls._refused(str(info.field_name), f"is not https, but {cls.variable('live')} is true")
        return value

    @field_validator("wechat_private_key", "wechat_platform_key")
    @classmethod
    def _check_keys(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return None
        merchant = info.field_name == "wechat_private_key"
        serial = str(info.data.get("wechat_serial" if merchant else "wechat_platform_serial") or "0")
        try:
            if merchant:
                KeyFiles(value, serial, load_private_key)
            else:
                KeyFiles(value, serial, load_platform_key)
        except BadCredential as error:
            raise cls._refused(str(info.field_name), f"names {value}: {error}") from None
        return value

    @field_validator("wechat_notify_url")
    @classmethod
    def _check_wechat_complete(cls, value: str, info: ValidationInfo) -> str:
        parts = {name: info.data.get(name) for name in _WECHAT} | {"wechat_notify_url": value}
        parts["wechat_apiv3_key"] = info.data.get("wechat_apiv3_key_file") or info.data.get("wechat_apiv3_key")
        for name, beside in _SERIALS.items():
            path = info.data.get(beside)
            if path is None or not path.is_dir():
                parts[name] = info.data.get(name)
        # A setting with an invalid value has its own error.
        missing = [cls.variable(name) for name, part in parts.items() if not _text(part) and name not in _invalid(info)]
        if missing and any(_text(part) for part in parts.values()):
            raise ValueError(f"the WeChat Pay account is incomplete: {', '.join(missing)} not set")
        return value

    @classmethod
    def _refused(cls, name: str, reason: str) -> PydanticCustomError:
        """The error for a setting, without its value, which may be a secret."""
        # Braces would be read as the places of values.
        sentence = f"{cls.variable(name)} {reason}".replace("{", "(").replace("}", ")")
        return PydanticCustomError(SENTENCE, sentence)


def _invalid(info: ValidationInfo) -> set[str]:
    return {name for name in PaymentsSettings.model_fields if name not in info.data} - {"wechat_notify_url"}


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
