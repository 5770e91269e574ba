"""Settings of the simulated provider, from environment variables GROUPBUY_SIMPROVIDER_* alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from chassis.identity.access_settings import SecuritySettings
from chassis.lifecycle.variables import Shape

Milliseconds = Annotated[int, Field(ge=0)]
#: Bounds of Behaviour in the proto.
Latency = Annotated[int, Field(ge=0, le=60_000)]
Delay = Annotated[int, Field(ge=0, le=86_400_000)]
PerMille = Annotated[int, Field(ge=0, le=1000)]


class Settings(SecuritySettings):
    """Settings of the process. A restart resets the behaviour of a Configure call to these."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_SIMPROVIDER_")

    #: Turns encryption and authorisation off. On by default, as no real money is involved.
    insecure: bool = True
    #: host:port; port 0 for any free port, which the first log line names.
    listen: Annotated[str, Field(pattern=r"^.+:\d+$"), Shape("host:port")] = "127.0.0.1:50054"
    #: host:port of the HTTP APIs of Stripe and WeChat Pay and of the statement as CSV. Empty: none.
    http_listen: Annotated[str, Field(pattern=r"^(.+:\d+)?$"), Shape("host:port")] = ""
    #: SQLite file of the account book; created if missing.
    database: Path = Path(".run/state/simprovider/books.sqlite")

    # Faults: see Behaviour in simprovider.proto.
    #: Minimum latency of a call.
    latency_min_ms: Latency = 0
    #: Maximum latency of a call.
    latency_max_ms: Latency = 0
    #: Distribution of the latency.
    latency: Literal["uniform", "lognormal"] = "uniform"
    #: Median of a lognormal latency; the minimum and maximum still apply.
    latency_median_ms: Latency = 0
    #: Sigma of a lognormal latency.
    latency_sigma_per_mille: Annotated[int, Field(ge=0, le=5000)] = 0
    #: Life of holds; 0: seven days.
    hold_life_ms: Milliseconds = 0
    #: Share of calls that fail before they take effect.
    fail_before_per_mille: PerMille = 0
    #: Share of calls that fail after they took effect.
    fail_after_per_mille: PerMille = 0
    #: Share of calls that time out and never take effect.
    timeout_before_per_mille: PerMille = 0
    #: Share of calls that take effect and time out.
    timeout_after_per_mille: PerMille = 0
    #: Share of calls that are rate-limited without effect.
    limited_per_mille: PerMille = 0
    #: Rate limit of calls; 0: none.
    most_calls_per_s: Annotated[int, Field(ge=0)] = 0
    #: Payment methods that are declined.
    decline_methods: tuple[str, ...] = ()
    #: Amounts that are declined.
    decline_amounts_minor: tuple[int, ...] = ()
    #: Amount above which everything is declined; 0: none.
    decline_above_minor: Annotated[int, Field(ge=0)] = 0
    #: Share of refunds that are declined.
    refund_refuse_per_mille: PerMille = 0
    #: Share of refunds that succeed and then fail.
    refund_fail_per_mille: PerMille = 0
    #: Share of refunds that succeed and are then reversed.
    refund_reverse_per_mille: PerMille = 0
    #: Delay until a refund is undone.
    refund_undo_ms: Milliseconds = 0
    #: Share of payments that are disputed.
    dispute_per_mille: PerMille = 0
    #: Share of these disputes that the merchant wins.
    dispute_win_per_mille: PerMille = 0
    #: Delay of a dispute or a fraud warning after the payment.
    dispute_ms: Milliseconds = 0
    #: Delay until a dispute that nobody moves on is closed; 0: it stays open.
    dispute_close_ms: Milliseconds = 0
    #: Share of payments that the issuer warns of.
    fraud_warning_per_mille: PerMille = 0
    #: Life of an idempotency key of Stripe's API, for which it keeps its answer; 0: no end, no failures.
    key_life_ms: Milliseconds = 0
    #: Time for which a search over metadata does not find a new object.
    search_lag_ms: Milliseconds = 0
    #: Whether Stripe's API refuses amounts below its minimum of the currency.
    minimum_amounts: bool = False
    #: Whether Stripe's API refuses a payment method that was used without a customer, or that is another customer's.
    single_use_methods: bool = False
    #: Retry-After of a rate-limited call in seconds; 0: 1 with Stripe, none elsewhere.
    retry_after_s: Annotated[int, Field(ge=0, le=3600)] = 0
    #: Seed of the random faults; 0: drawn at start.
    seed: int = 0

    #: Notifications go to `{url}/simulated`, `{url}/stripe` and `{url}/wechat`. Empty: none are stored or sent.
    notify_url: Annotated[str, Field(pattern=r"^(https?://.+)?$"), Shape("URL")] = ""
    #: Also notifies of calls over gRPC.
    notify_own: bool = False
    #: Secret that signs notifications in this provider's own format.
    notify_secret: SecretStr = SecretStr("simulated")
    #: Share of notifications that are sent twice.
    notify_twice_per_mille: PerMille = 0
    #: Share of notifications that are delayed.
    notify_late_per_mille: PerMille = 0
    #: Delay of the delayed notifications.
    notify_late_ms: Delay = 0
    #: Maximum random delay of each notification; reorders them.
    notify_shuffle_ms: Delay = 0

    #: Delay of the second copy of a notification.
    notify_twice_ms: Milliseconds = 0
    #: Notifications of each window of this length are sent in reverse order; 0: none.
    notify_reverse_ms: Delay = 0

    #: Fee for money taken, as a share of it.
    fee_per_mille: PerMille = 0
    #: Fee for each payment.
    fee_fixed_minor: Annotated[int, Field(ge=0)] = 0
    #: Fee for each dispute.
    dispute_fee_minor: Annotated[int, Field(ge=0)] = 0
    #: Interval of payouts of the whole balance; 0: only on request.
    payout_every_ms: Milliseconds = 0
    #: Whether to keep balance transactions of calls over gRPC without fees.
    keep_balance: bool = False
    #: Whether WeChat's bills of the current day can be downloaded.
    bills_of_today: bool = False

    #: The merchant's key for Stripe's API.
    stripe_key: SecretStr = SecretStr("sk_test_simulated")
    #: Secret that signs webhooks of Stripe's API.
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
