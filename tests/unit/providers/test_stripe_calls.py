"""Requests to Stripe and the meaning of its answers. Method: Stripe's SDK against a scripted server on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from services.payments.providers.credentials import RECHECK_S, Secrets
from services.payments.providers.port import Unaddressed
from services.payments.providers.stripe import adapter
from services.payments.providers.stripe.calls import CallSettings
from services.payments.providers.stripe.credentials import check_key
from shared_kernel.payment_providers import CAPABILITIES
from tests.unit.providers.stripe_server import KEY, Answer, failed, intent, served

CREATE, SEARCH = "POST /v1/payment_intents", "GET /v1/payment_intents/search"
READ, CAPTURE = "GET /v1/payment_intents/pi_1", "POST /v1/payment_intents/pi_1/capture"
REFUND, REFUNDS = "POST /v1/refunds", "GET /v1/refunds"
NOTHING = {"object": "search_result", "data": [], "has_more": False}
REPLAYED = Answer(failed(500, "api_error"), 500, {"Idempotent-Replayed": "true"})
FRESH = Answer(failed(500, "api_error"), 500)


def call(operation: d.Operation.ValueType = d.OPERATION_AUTHORISE, **fields: Any) -> ProviderCall:
    made = {"order": "o", "attempt": 1, "amount_minor": 8900, "currency": "EUR", "payment_method": "stripe_pm_1"}
    hold = "" if operation in (d.OPERATION_AUTHORISE, d.OPERATION_SALE) else "pi_1"
    return ProviderCall(**{**made, "operation": operation, "hold": hold, **fields})


async def test_a_hold_names_the_deployment_and_reports_currency_and_end() -> None:
    async with served(CallSettings(environment="production", return_url="https://shop.example/done")) as (stripe, one):
        stripe.on(CREATE, intent())
        outcome = await one.perform(call(), "g")
        (sent,) = stripe.sent
    assert sent.idempotency_key == "o:authorise:1"
    assert {name: value for name, value in sent.form.items() if name.startswith("metadata")} == {
        "metadata[order]": "o",
        "metadata[group]": "g",
        "metadata[key]": "o:authorise:1",
        "metadata[environment]": "production",
    }
    assert (sent.form["amount"], sent.form["currency"], sent.form["capture_method"]) == ("8900", "eur", "manual")
    assert (sent.form["payment_method"], sent.form["return_url"]) == ("pm_1", "https://shop.example/done")
    assert not {"customer", "off_session", "setup_future_usage", "payment_method_options"} & {
        name.partition("[")[0] for name in sent.form
    }
    held = outcome.authorised
    assert (held.amount_minor, held.currency, held.capturable_until_ms) == (8900, "EUR", 1_700_600_000_000)


async def test_a_saved_card_is_set_up_by_the_shoppers_hold_and_used_off_session_by_a_later_one() -> None:
    async with served() as (stripe, one):
        stripe.on(CREATE, intent())
        stripe.on("GET /v1/payment_methods/pm_1", {"id": "pm_1", "object": "payment_method", "customer": "cus_1"})
        method = "stripe_cus_1.pm_1"
        await one.perform(call(payment_method=method), "g")
        await one.perform(call(payment_method=method, attempt=2), "g")
        first, renewed = stripe.requests(CREATE)
    assert (first.form["customer"], first.form["payment_method"]) == ("cus_1", "pm_1")
    assert (first.form["setup_future_usage"], "off_session" in first.form) == ("off_session", False)
    assert (renewed.form["off_session"], "setup_future_usage" in renewed.form) == ("true", False)


async def test_a_further_attempt_with_a_card_that_is_not_saved_yet_needs_the_shopper() -> None:
    async with served() as (stripe, one):
        stripe.on(CREATE, intent())
        stripe.on("GET /v1/payment_methods/pm_1", {"id": "pm_1", "object": "payment_method", "customer": None})
        await one.perform(call(payment_method="wallet_stripe_cus_1.pm_1", attempt=2), "g")
        (sent,) = stripe.requests(CREATE)
    assert sent.form["setup_future_usage"] == "off_session"
    assert "off_session" not in sent.form


async def test_an_extended_authorisation_is_requested_for_holds_where_the_account_has_it() -> None:
    async with served(CallSettings(extended=True)) as (stripe, one):
        stripe.on(CREATE, intent())
        await one.perform(call(), "g")
        stripe.on(CREATE, intent("succeeded"))
        await one.perform(call(d.OPERATION_SALE), "g")
        hold, sale = stripe.requests(CREATE)
    option = "payment_method_options[card][request_extended_authorization]"
    assert (hold.form[option], option in sale.form) == ("if_available", False)


async def test_an_object_of_another_deployment_is_no_result() -> None:
    async with served(CallSettings(environment="production")) as (stripe, one):
        stripe.on(CREATE, intent(metadata={"environment": "staging"}))
        outcome = await one.perform(call(), "g")
        assert "staging" in outcome.not_possible.error
        # Made before the setting was.
        stripe.on(CREATE, intent(metadata={}))
        assert (await one.perform(call(), "g")).authorised.hold == "pi_1"


@pytest.mark.parametrize(
    ("operation", "answer", "result"),
    [
        # A hold that we know of is missing for another account, or in the other mode.
        (d.OPERATION_CAPTURE, Answer(failed(404, "invalid_request_error", "resource_missing"), 404), "not_possible"),
        (d.OPERATION_CAPTURE, Answer(failed(401, "invalid_request_error"), 401), "not_possible"),
        (d.OPERATION_CAPTURE, Answer(failed(403, "invalid_request_error"), 403), "not_possible"),
        (d.OPERATION_CAPTURE, Answer(failed(400, "invalid_request_error", "livemode_mismatch"), 400), "not_possible"),
        (d.OPERATION_CAPTURE, Answer(failed(402, "card_error", "card_declined"), 402), "declined"),
        (
            d.OPERATION_AUTHORISE,
            Answer(failed(400, "invalid_request_error", "resource_missing", param="payment_method"), 400),
            "declined",
        ),
        (
            d.OPERATION_AUTHORISE,
            Answer(
                failed(
                    400,
                    "invalid_request_error",
                    "resource_missing",
                    "No such PaymentMethod; a similar object exists in live mode, but a test mode key was used.",
                    param="payment_method",
                ),
                400,
            ),
            "not_possible",
        ),
    ],
)
async def test_an_error_about_our_account_is_no_decline(
    operation: d.Operation.ValueType, answer: Answer, result: str
) -> None:
    async with served() as (stripe, one):
        stripe.on(CREATE, answer)
        stripe.on(CAPTURE, answer)
        stripe.on(READ, intent())
        outcome = await one.perform(call(operation), "g")
    assert outcome.WhichOneof("result") == result


async def test_a_reason_in_the_log_has_no_whole_token() -> None:
    message = "No such PaymentMethod: 'pm_1NirD82eZvKYlo2C' of cus_NffrFeUfNV2Hib with sk_test_0123456789abcdef"
    async with served() as (stripe, one):
        error = failed(400, "invalid_request_error", "resource_missing", message, param="payment_method")
        stripe.on(CREATE, Answer(error, 400))
        reason = (await one.perform(call(), "g")).declined.reason
        stripe.on(CREATE, Answer({"error": {**error["error"], "param": "customer_of_ours"}}, 400))
        problem = (await one.perform(call(order="p"), "g")).not_possible.error
    for text in (reason, problem):
        assert "pm_…lo2C" in text
        assert "cus_…2Hib" in text
        assert "sk_…cdef" in text


async def test_a_rate_limit_waits_as_long_as_stripe_asks_and_pauses_the_other_calls() -> None:
    async with served() as (stripe, one):
        limited = Answer(failed(429, "invalid_request_error", "rate_limit"), 429, {"Retry-After": "7"})
        stripe.on(CAPTURE, limited)
        assert (await one.perform(call(d.OPERATION_CAPTURE), "g")).retry_later.after_ms == 7_000
        other = await one.perform(call(d.OPERATION_CAPTURE, order="p"), "g")
        assert 5_000 < other.retry_later.after_ms <= 7_001
        assert len(stripe.sent) == 1


async def test_a_500_that_stripe_repeats_is_absent_once_a_look_up_has_found_no_capture() -> None:
    """Stripe keeps the answer to a key for a day; under the same key the hold would lapse."""
    async with served() as (stripe, one):
        stripe.on(CAPTURE, FRESH, REPLAYED)
        stripe.on(READ, intent())
        outcome = await one.perform(call(d.OPERATION_CAPTURE), "g")
        assert "500" in outcome.absent.error
        assert [one.idempotency_key for one in stripe.requests(CAPTURE)] == ["o:capture:1"] * 2


async def test_a_repeated_500_of_a_capture_that_took_effect_is_a_capture() -> None:
    async with served() as (stripe, one):
        stripe.on(CAPTURE, REPLAYED)
        stripe.on(READ, intent("succeeded"))
        outcome = await one.perform(call(d.OPERATION_CAPTURE), "g")
        assert (outcome.captured.amount_minor, outcome.captured.currency) == (8900, "EUR")


async def test_a_500_that_is_not_repeated_stays_unknown() -> None:
    async with served() as (stripe, one):
        stripe.on(CAPTURE, FRESH)
        stripe.on(READ, intent())
        outcome = await one.perform(call(d.OPERATION_CAPTURE), "g")
        assert outcome.retry_later.error
        assert not outcome.retry_later.replayed


async def test_a_repeated_500_of_a_refund_is_looked_up_in_the_list_of_refunds() -> None:
    async with served() as (stripe, one):
        stripe.on(REFUND, REPLAYED)
        stripe.on(REFUNDS, {"object": "list", "data": [], "has_more": False, "url": "/v1/refunds"})
        assert (await one.perform(call(d.OPERATION_REFUND, amount_minor=10), "g")).HasField("absent")
        made = {
            "id": "re_1",
            "object": "refund",
            "status": "succeeded",
            "amount": 10,
            "currency": "eur",
            "payment_intent": "pi_1",
            "metadata": {"key": "o:refund:1"},
        }
        stripe.on(REFUNDS, {"object": "list", "data": [made], "has_more": False, "url": "/v1/refunds"})
        refunded = (await one.perform(call(d.OPERATION_REFUND, amount_minor=10), "g")).refunded
        assert (refunded.amount_minor, refunded.currency, refunded.reference) == (10, "EUR", "re_1")


async def test_a_repeated_500_of_a_hold_is_absent_only_after_the_searchs_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as (stripe, one):
        stripe.on(CREATE, REPLAYED)
        stripe.on(SEARCH, NOTHING)
        outcome = await one.perform(call(), "g")
        assert 0 < outcome.retry_later.after_ms <= CAPABILITIES["stripe"].search_lag_ms
        exact = {"stripe": replace(CAPABILITIES["stripe"], search_lag_ms=0)}
        monkeypatch.setattr(adapter, "CAPABILITIES", exact)
        assert (await one.perform_again(call(), "g")).HasField("absent")


async def test_a_link_that_the_shopper_has_to_open_is_renewed_when_it_is_a_day_old() -> None:
    now_s = 1_700_000_000 + 86_400 + 5
    waiting = intent("requires_action", next_action={"redirect_to_url": {"url": "https://hooks.example/old"}})
    renewed = intent("requires_action", next_action={"redirect_to_url": {"url": "https://hooks.example/new"}})
    for later_s, url in ((-10, "https://hooks.example/old"), (0, "https://hooks.example/new")):
        async with served(CallSettings(now_s=lambda later=later_s: now_s + later)) as (stripe, one):  # type: ignore[misc]
            stripe.on(SEARCH, {**NOTHING, "data": [waiting]})
            stripe.on(READ, waiting)
            stripe.on("POST /v1/payment_intents/pi_1/confirm", renewed)
            outcome = await one.perform_again(call(), "g")
            confirmed = stripe.requests("POST /v1/payment_intents/pi_1/confirm")
        assert outcome.action_required.action_url == url
        assert [sent.idempotency_key for sent in confirmed] == (["o:authorise:1:link:1"] if later_s == 0 else [])


async def test_an_amount_that_stripe_does_not_take_is_declined_without_a_request() -> None:
    async with served() as (stripe, one):
        outcome = await one.perform(call(d.OPERATION_CAPTURE, amount_minor=7_995, currency="KWD"), "g")
        assert "multiples" in outcome.declined.reason
        assert stripe.sent == []


async def test_a_new_key_in_the_file_is_used_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    now_s = 0.0
    secrets = Secrets("", file, check_key, clock=lambda: now_s)
    async with served(key=secrets.first) as (stripe, one):
        stripe.on(CREATE, intent())
        await one.perform(call(), "g")
        file.write_text("sk_test_fedcba9876543210\n")
        now_s = RECHECK_S + 1
        await one.perform(call(order="p"), "g")
        assert [sent.authorization for sent in stripe.sent] == [f"Bearer {KEY}", "Bearer sk_test_fedcba9876543210"]


async def test_a_payment_intent_locates_the_order_of_news_about_it() -> None:
    async with served() as (stripe, one):
        stripe.on(READ, intent(metadata={"order": "o", "group": "g", "environment": "staging"}))
        claim = await one.locate(Unaddressed("pi_1", ProviderOutcome()), 5)
        assert claim is not None
        assert (claim[0], claim[1].order, claim[1].environment) == ("g", "o", "staging")
        # Of another system on the same account.
        stripe.on(READ, intent(metadata={}))
        assert await one.locate(Unaddressed("pi_1", ProviderOutcome()), 5) is None
        assert await one.locate(Unaddressed("pi_unknown", ProviderOutcome()), 5) is None
