"""Settings of the simulated provider, from environment variables GROUPBUY_SIMPROVIDER_* alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from chassis.identity.access_settings import SecuritySettings

Milliseconds = Annotated[int, Field(ge=0)]
#: Bounds of Behaviour in the proto.
Latency = Annotated[int, Field(ge=0, le=60_000)]
Delay = Annotated[int, Field(ge=0, le=86_400_000)]
PerMille = Annotated[int, Field(ge=0, le=1000)]


class Settings(SecuritySettings):
    """Settings of the process. A restart resets the behaviour of a Configure call to these."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_SIMPROVIDER_")

    #: Open to all callers by default, as no real money is involved.
    insecure: bool = True
    #: host:port; port 0 for any free port, which the first log line names.
    listen: Annotated[str, Field(pattern=r"^.+:\d+$")] = "127.0.0.1:50054"
    #: host:port of the HTTP APIs of Stripe and WeChat Pay and of the statement as CSV. Empty: none.
    http_listen: Annotated[str, Field(pattern=r"^(.+:\d+)?$")] = ""
    #: SQLite file of the account book; created if missing.
    database: Path = Path(".run/state/simprovider/books.sqlite")

    # Faults: see Behaviour in simprovider.proto.
    latency_min_ms: Latency = 0
    latency_max_ms: Latency = 0
    latency: Literal["uniform", "lognormal"] = "uniform"
    latency_median_ms: Latency = 0
    latency_sigma_per_mille: Annotated[int, Field(ge=0, le=5000)] = 0
    #: Life of holds; 0: seven days.
    hold_life_ms: Milliseconds = 0
    fail_before_per_mille: PerMille = 0
    fail_after_per_mille: PerMille = 0
    timeout_before_per_mille: PerMille = 0
    timeout_after_per_mille: PerMille = 0
    limited_per_mille: PerMille = 0
    most_calls_per_s: Annotated[int, Field(ge=0)] = 0
    decline_methods: tuple[str, ...] = ()
    decline_amounts_minor: tuple[int, ...] = ()
    decline_above_minor: Annotated[int, Field(ge=0)] = 0
    seed: int = 0

    #: Notifications go to `{url}/simulated`, `{url}/stripe` and `{url}/wechat`. Empty: none are stored or sent.
    notify_url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    #: Also notifies of calls over gRPC.
    notify_own: bool = False
    #: Secret that signs notifications in this provider's own format.
    notify_secret: SecretStr = SecretStr("simulated")
    notify_twice_per_mille: PerMille = 0
    notify_late_per_mille: PerMille = 0
    notify_late_ms: Delay = 0
    notify_shuffle_ms: Delay = 0

    #: The merchant's key for Stripe's API, and the secret that signs its webhooks.
    stripe_key: SecretStr = SecretStr("sk_test_simulated")
    stripe_webhook_secret: SecretStr = SecretStr("whsec_simulated")
    #: Directory with the keys of WeChat Pay and its merchant; missing ones are generated. Empty: beside the database.
    wechat_keys: Path | None = None

    #: Seconds that calls in flight get to end after SIGTERM.
    drain_seconds: Annotated[float, Field(ge=0)] = 10.0

    @model_validator(mode="after")
    def _latency_is_a_range(self) -> Self:
        if self.latency_min_ms > self.latency_max_ms:
            raise ValueError("latency_min_ms is above latency_max_ms")
        return self
