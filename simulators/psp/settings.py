"""Settings of the simulated provider, from environment variables GROUPBUY_SIMPROVIDER_*. Reads nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from chassis.identity.access_settings import SecuritySettings

Milliseconds = Annotated[int, Field(ge=0)]
#: The bounds that the proto sets for a Behaviour.
Latency = Annotated[int, Field(ge=0, le=60_000)]
Delay = Annotated[int, Field(ge=0, le=86_400_000)]
PerMille = Annotated[int, Field(ge=0, le=1000)]


class Settings(SecuritySettings):
    """How the provider runs. What the Configure call sets later is forgotten at a restart: these hold again."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_SIMPROVIDER_")

    #: What it simulates is on nobody's money: open unless it is told otherwise.
    insecure: bool = True
    #: host:port; port 0 takes a free one, which the first line of the log names.
    listen: Annotated[str, Field(pattern=r"^.+:\d+$")] = "127.0.0.1:50054"
    #: Where it speaks HTTP: Stripe's API, WeChat Pay's, the statement as CSV. Empty: nowhere.
    http_listen: Annotated[str, Field(pattern=r"^(.+:\d+)?$")] = ""
    #: The SQLite file that holds the books; made if missing.
    database: Path = Path(".run/state/simprovider/books.sqlite")

    # Faults: see Behaviour in simprovider.proto.
    latency_min_ms: Latency = 0
    latency_max_ms: Latency = 0
    latency: Literal["uniform", "lognormal"] = "uniform"
    latency_median_ms: Latency = 0
    latency_sigma_per_mille: Annotated[int, Field(ge=0, le=5000)] = 0
    #: How long holds live; 0: seven days.
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

    #: Where notifications go: `{url}/simulated`, `{url}/stripe`, `{url}/wechat`. Empty: nowhere, none are kept.
    notify_url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    #: Tells also of calls that came by gRPC.
    notify_own: bool = False
    #: Signs notifications of this provider's own kind.
    notify_secret: SecretStr = SecretStr("simulated")
    notify_twice_per_mille: PerMille = 0
    notify_late_per_mille: PerMille = 0
    notify_late_ms: Delay = 0
    notify_shuffle_ms: Delay = 0

    #: The merchant's key for Stripe's API, and what signs its webhooks.
    stripe_key: SecretStr = SecretStr("sk_test_simulated")
    stripe_webhook_secret: SecretStr = SecretStr("whsec_simulated")
    #: A directory with the keys that a merchant of WeChat Pay has and gets; those missing are made. Empty: beside the
    #: books.
    wechat_keys: Path | None = None

    #: How long calls under way may take to end after SIGTERM.
    drain_seconds: Annotated[float, Field(ge=0)] = 10.0

    @model_validator(mode="after")
    def _latency_is_a_range(self) -> Self:
        if self.latency_min_ms > self.latency_max_ms:
            raise ValueError("latency_min_ms is above latency_max_ms")
        return self
