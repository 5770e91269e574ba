"""The payment providers: which payment methods are theirs, and what each of them can do.

One table for the checks of campaigns and orders, the adapters, and the command line. Pure: no I/O. The settings of a
process name the providers that it has; the table describes all that exist. Amounts are in minor units of ISO 4217,
durations in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shared_kernel.currencies import CURRENCIES, decimal_text

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

SIMULATED, STRIPE, WECHAT = "simulated", "stripe", "wechat"

#: Provider by the prefix of a payment method, which an underscore follows; the longest match decides. The payments'
#: rules make sales of methods with the prefix `wallet`. A method without any of the prefixes has no provider. Each
#: provider's own name is a prefix: a notification of a payment that nobody asked for has `{provider}_` as its method.
PREFIXES: Mapping[str, str] = {
    "simulated": SIMULATED,
    "card": SIMULATED,
    "wallet": SIMULATED,
    "stripe": STRIPE,
    "wallet_stripe": STRIPE,
    "wechat": WECHAT,
    "wallet_wechat": WECHAT,
}
#: Each prefix with and without its underscore. Every order is checked, so the texts are made once.
_LONGEST_FIRST = [(f"{prefix}_", prefix) for prefix in sorted(PREFIXES, key=len, reverse=True)]
#: Prefix of the methods whose money is taken at join, by a sale instead of a hold.
SALE_PREFIX = "wallet_"


def prefix_of(payment_method: str) -> str:
    """The prefix of a payment method, without its underscore; empty for an unknown one."""
    for beginning, prefix in _LONGEST_FIRST:
        if payment_method.startswith(beginning):
            return prefix
    return ""


def provider_of(payment_method: str) -> str:
    """Name of the provider of a payment method; empty if it has none."""
    return PREFIXES.get(prefix_of(payment_method), "")


def token_of(payment_method: str) -> str:
    """The provider's own token in a payment method: the text after the prefix."""
    prefix = prefix_of(payment_method)
    return payment_method.removeprefix(f"{prefix}_") if prefix else payment_method


def masked(payment_method: str) -> str:
    """A payment method for people: its prefix and the last four characters of its token."""
    prefix, token = prefix_of(payment_method), token_of(payment_method)
    shown = token[-4:] if len(token) > 8 else ""
    return f"{prefix}_…{shown}" if prefix else f"…{shown}"


@dataclass(frozen=True, slots=True)
class HoldLife:
    """How long a hold on a card of one network can be captured."""

    #: For a payment that the shopper makes, and for one that the merchant makes with a saved card.
    customer_initiated_ms: int
    merchant_initiated_ms: int
    #: With an extended authorisation, where the provider grants it.
    extended_ms: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a provider."""

    provider: str
    currencies: frozenset[str]
    #: Smallest amount by currency; 1 for the others.
    minimum_minor: Mapping[str, int] = field(default_factory=dict)
    #: Currencies whose amounts have to be multiples of a number of minor units.
    steps: Mapping[str, int] = field(default_factory=dict)
    #: Largest amount, in the provider's units.
    maximum: int = (1 << 63) - 1
    #: The provider's units in one minor unit of ISO 4217, as numerator and denominator, where it is not one.
    units: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    #: Life of a hold by card network; empty if the provider has no holds.
    hold_lives: Mapping[str, HoldLife] = field(default_factory=dict)
    #: Whether less than the held amount can be captured, and whether one hold can be captured more than once.
    partial_capture: bool = True
    multiple_capture: bool = False
    #: Time after which a search finds a new payment; 0 if look-ups are exact.
    search_lag_ms: int = 0
    #: Time for which the provider keeps the answer to an idempotency key; 0: without limit.
    key_life_ms: int = 0
    #: Time for which the link that a shopper opens to pay can be used; 0: as long as the payment.
    action_link_ms: int = 0

    @property
    def holds(self) -> bool:
        """Whether the provider can hold money for a later capture."""
        return bool(self.hold_lives)

    def hold_life_ms(self, network: str = "", *, merchant_initiated: bool = False, extended: bool = False) -> int:
        """Life of a hold on a card of a network, or the shortest one if the network is not known. 0 without holds."""
        known = self.hold_lives.get(network)
        lives = [known] if known is not None else list(self.hold_lives.values())
        if extended:
            return min((life.extended_ms for life in lives), default=0)
        if merchant_initiated:
            return min((life.merchant_initiated_ms for life in lives), default=0)
        return min((life.customer_initiated_ms for life in lives), default=0)

    def currency_problem(self, currency: str) -> str:
        """Reason for which the provider can't take a currency; empty if it can."""
        if currency in self.currencies:
            return ""
        if len(self.currencies) == 1:
            return f"{self.provider} takes {next(iter(self.currencies))} alone, not {currency}"
        return f"{self.provider} does not take {currency}"

    def amount_problem(self, amount_minor: int, currency: str, *, part: bool = False) -> str:
        """Reason for which the provider can't take an amount; empty if it can.

        A `part` of a charge, captured or refunded, may be below the smallest charge.
        """
        if problem := self.currency_problem(currency):
            return problem
        if amount_minor <= 0:
            return f"the amount is {amount_minor}: it must be above 0"
        step = self.steps.get(currency, 1)
        if amount_minor % step:
            return (
                f"{self.provider} takes amounts in {currency} in multiples of {decimal_text(step, currency)}, "
                f"not {decimal_text(amount_minor, currency)}"
            )
        minimum = self.minimum_minor.get(currency, 1)
        if amount_minor < minimum and not part:
            return (
                f"{self.provider} takes amounts from {decimal_text(minimum, currency)} {currency}, "
                f"not {decimal_text(amount_minor, currency)}"
            )
        above, below = self.units.get(currency, (1, 1))
        if amount_minor * above > self.maximum * below:
            most = self.maximum * below // above
            return (
                f"{self.provider} takes amounts up to {decimal_text(most, currency)} {currency}, "
                f"not {decimal_text(amount_minor, currency)}"
            )
        return ""


#: Visa's window less the six hours that Stripe leaves for clearing: five days become 4 days and 18 hours.
_CLEARING_MS = 6 * HOUR_MS
_WEEK_MS, _MONTH_MS = 7 * DAY_MS, 30 * DAY_MS
_NOT_AT_STRIPE = {
    *("BTN", "CUP", "ERN", "GHS", "IQD", "IRR", "KPW", "LYD", "MRU"),
    *("SDG", "SSP", "STN", "SVC", "SYP", "TMT", "VES", "ZWG"),
}

#: Sources: https://docs.stripe.com/currencies ("Minimum and maximum charge amounts", "Three-decimal currencies",
#: "Special cases"), https://docs.stripe.com/payments/place-a-hold-on-a-payment-method ("Authorization validity
#: windows"), https://docs.stripe.com/payments/extended-authorization, https://docs.stripe.com/search,
#: https://docs.stripe.com/api/idempotent_requests.
_STRIPE = Capabilities(
    STRIPE,
    currencies=CURRENCIES - _NOT_AT_STRIPE,
    minimum_minor={
        **dict.fromkeys(("USD", "AUD", "BRL", "CAD", "CHF", "EUR", "INR", "NZD", "SGD"), 50),
        **dict.fromkeys(("AED", "MYR", "PLN", "RON"), 200),
        **dict.fromkeys(("NOK", "SEK"), 300),
        "BGN": 100,
        "CZK": 1_500,
        "DKK": 250,
        "GBP": 30,
        "HKD": 400,
        "HUF": 17_500,
        "JPY": 50,
        "MXN": 1_000,
        "THB": 1_000,
    },
    # Three decimals of which Stripe takes the last one only as 0; two decimals in ISO 4217 and none at Stripe.
    steps={**dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 10), "MGA": 100},
    maximum=99_999_999,
    # No decimals in ISO 4217 and two at Stripe; the reverse.
    units={"ISK": (100, 1), "UGX": (100, 1), "MGA": (1, 100)},
    hold_lives={
        "visa": HoldLife(_WEEK_MS - _CLEARING_MS, 5 * DAY_MS - _CLEARING_MS, _MONTH_MS - _CLEARING_MS),
        "mastercard": HoldLife(_WEEK_MS, _WEEK_MS, _MONTH_MS),
        "amex": HoldLife(_WEEK_MS, _WEEK_MS, _MONTH_MS),
        "discover": HoldLife(_WEEK_MS, _WEEK_MS, _MONTH_MS),
    },
    search_lag_ms=60_000,
    key_life_ms=DAY_MS,
    action_link_ms=DAY_MS,
)

#: WeChat Pay charges at once; there is nothing to capture. A payment code and a prepay id are valid for two hours.
#: Source: https://pay.weixin.qq.com/doc/v3/merchant, "Native下单", "JSAPI/小程序下单".
_WECHAT = Capabilities(
    WECHAT,
    currencies=frozenset({"CNY"}),
    maximum=(1 << 31) - 1,
    partial_capture=False,
    action_link_ms=2 * HOUR_MS,
)

_SIMULATED = Capabilities(
    SIMULATED,
    currencies=CURRENCIES,
    hold_lives={"simulated": HoldLife(_WEEK_MS, _WEEK_MS, _WEEK_MS)},
)

CAPABILITIES: Mapping[str, Capabilities] = {one.provider: one for one in (_SIMULATED, _STRIPE, _WECHAT)}
#: The providers of a process whose settings name none: those with real money. The simulated one has to be named.
DEFAULT_PROVIDERS = (STRIPE, WECHAT)


def capabilities_of(names: Iterable[str]) -> list[Capabilities]:
    """The capabilities of some providers. Raises KeyError for an unknown name."""
    return [CAPABILITIES[name] for name in names]
