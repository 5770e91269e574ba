"""The table of payment providers: prefixes, currencies, amounts, lives of holds. Method: the documented values."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from shared_kernel.currencies import CURRENCIES, EXPONENTS, decimal_text
from shared_kernel.payment_providers import (
    CAPABILITIES,
    DAY_MS,
    DEFAULT_PROVIDERS,
    HOUR_MS,
    PREFIXES,
    capabilities_of,
    masked,
    provider_of,
    token_of,
)
from shared_kernel.provider_settings import DEFAULT, ProviderNames, provider_names

STRIPE, WECHAT = CAPABILITIES["stripe"], CAPABILITIES["wechat"]


@pytest.mark.parametrize(
    ("method", "provider", "token"),
    [
        ("card_ok", "simulated", "ok"),
        ("wallet_ok", "simulated", "ok"),
        ("stripe_pm_x", "stripe", "pm_x"),
        # A sale at Stripe: the longest prefix decides, so no method of Stripe's reaches another provider.
        ("wallet_stripe_pm_x", "stripe", "pm_x"),
        ("wechat_o1", "wechat", "o1"),
        ("wallet_wechat_native", "wechat", "native"),
        # Of a notification about a payment that nobody asked for.
        ("simulated_", "simulated", ""),
        ("stripe_", "stripe", ""),
        ("wechat_", "wechat", ""),
        ("pm_1Nabc", "", "pm_1Nabc"),
        ("paypal_x", "", "paypal_x"),
        ("cardinal_x", "", "cardinal_x"),
        ("card", "", "card"),
        ("CARD_x", "", "CARD_x"),
        ("", "", ""),
    ],
)
def test_the_longest_prefix_of_a_method_decides_and_there_is_no_default(method: str, provider: str, token: str) -> None:
    assert (provider_of(method), token_of(method)) == (provider, token)


def test_every_prefix_has_a_provider_of_the_table() -> None:
    assert set(PREFIXES.values()) == set(CAPABILITIES) <= set(PREFIXES)
    assert "simulated" not in DEFAULT_PROVIDERS


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        ("stripe_pm_1NirD82eZvKYlo2C", "stripe_…lo2C"),
        ("card_4111", "card_…"),
        ("pm_1NirD82eZvKYlo2C", "…lo2C"),
        ("wallet_wechat_native", "wallet_wechat_…"),
    ],
)
def test_a_method_is_shown_by_its_prefix_and_the_last_four_characters_of_a_long_token(method: str, shown: str) -> None:
    assert masked(method) == shown


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(8_900, "CNY", "89.00"), (-5, "EUR", "-0.05"), (1_234_567, "KWD", "1,234.567"), (5_000, "JPY", "5,000")],
)
def test_amounts_have_the_decimals_of_their_currency(minor: int, currency: str, text: str) -> None:
    assert decimal_text(minor, currency) == text


def test_the_table_of_currencies_has_each_code_once() -> None:
    assert len(EXPONENTS) == len(CURRENCIES) == 156
    assert {currency for currency, exponent in EXPONENTS.items() if exponent == 3} == {
        "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND",
    }  # fmt: skip


def test_the_life_of_a_hold_depends_on_network_and_initiator_and_is_the_shortest_if_unknown() -> None:
    assert STRIPE.hold_life_ms("visa") == STRIPE.hold_life_ms() == 6 * DAY_MS + 18 * HOUR_MS
    assert STRIPE.hold_life_ms("visa", merchant_initiated=True) == 4 * DAY_MS + 18 * HOUR_MS
    assert STRIPE.hold_life_ms(merchant_initiated=True) == 4 * DAY_MS + 18 * HOUR_MS
    assert STRIPE.hold_life_ms("mastercard", merchant_initiated=True) == 7 * DAY_MS
    assert STRIPE.hold_life_ms(extended=True) == 29 * DAY_MS + 18 * HOUR_MS
    assert WECHAT.hold_life_ms() == 0
    assert [one.holds for one in capabilities_of(("stripe", "wechat"))] == [True, False]


def test_a_provider_of_one_currency_names_it() -> None:
    assert WECHAT.amount_problem(100, "CNY") == ""
    assert WECHAT.amount_problem(100, "EUR") == "wechat takes CNY alone, not EUR"


def test_the_setting_names_known_providers() -> None:
    setting = TypeAdapter(ProviderNames)
    assert provider_names(DEFAULT) == DEFAULT_PROVIDERS
    assert setting.validate_python(" stripe, simulated,stripe") == "stripe,simulated"
    for wrong in ("", "stripe,", "paypal", "Stripe"):
        with pytest.raises(ValidationError, match="must name payment providers"):
            setting.validate_python(wrong)
