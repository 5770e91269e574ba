"""News of a provider: what nobody asked for by a call. Method: signed notifications in the shapes of the providers'
APIs, and a locator of a few lines in place of the provider that is asked for the order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as i

from chassis.outside.call_errors import ResultUnknown
from chassis.outside.signatures import BadSignature
from services.payments.providers.notifications import LookUpFailed, Notifications, OtherEnvironment
from services.payments.providers.port import Claim, Unaddressed
from services.payments.providers.registry import notifications_of
from services.payments.providers.wechat import references
from services.payments.providers.wechat.merchant_account import MerchantAccount
from simulators.psp.wechat.signer import Signer
from tests.provider_simulator import merchant
from tests.unit.providers.test_notifications import (
    GROUP,
    INTENT,
    NAMES,
    ORDER,
    OWN,
    STRIPE,
    of_simulated,
    of_stripe,
    of_wechat,
    paid,
    signed,
)

REFUND = {
    "id": "re_1",
    "object": "refund",
    "amount": 500,
    "currency": "eur",
    "charge": "ch_1",
    "payment_intent": "pi_1",
    "status": "succeeded",
    "metadata": {},
}
OURS = {**NAMES, "key": f"{ORDER}:refund:4"}
DISPUTE = {
    "id": "dp_1",
    "object": "dispute",
    "amount": 8900,
    "currency": "eur",
    "charge": "ch_1",
    "payment_intent": "pi_1",
    "reason": "fraudulent",
    "status": "needs_response",
    "evidence_details": {"due_by": 1_700_000_000, "has_evidence": False},
    "balance_transactions": [{"id": "txn_1", "amount": -8900, "fee": 2000, "currency": "eur"}],
    "metadata": {},
}


class Locator:
    """Knows the orders of payments."""

    def __init__(self, environment: str = "", error: Exception | None = None) -> None:
        self.environment, self.error = environment, error
        self.asked: list[Unaddressed] = []

    async def locate(self, notification: Unaddressed, timeout_s: float) -> Claim | None:
        self.asked.append(notification)
        if self.error is not None:
            raise self.error
        if notification.hold != "pi_1":
            return None
        notification.outcome.order, notification.outcome.environment = ORDER, self.environment
        return GROUP, notification.outcome


def reads(account: MerchantAccount | None = None, environment: str = "", **more: Any) -> Notifications:
    return notifications_of(
        stripe_secrets=lambda: (STRIPE,), wechat=account, simulated_secret=OWN, environment=environment, **more
    )


def news_of(kind: str, described: dict[str, Any]) -> Unaddressed:
    found = reads().verify_and_parse(*of_stripe(kind, described))
    assert isinstance(found, Unaddressed)
    assert (found.hold, found.outcome.order, found.outcome.origin) == ("pi_1", "", i.OUTCOME_ORIGIN_NOTIFICATION)
    return found


def claim_of(kind: str, described: dict[str, Any]) -> i.ProviderOutcome:
    found = reads().verify_and_parse(*of_stripe(kind, described))
    assert found is not None
    assert not isinstance(found, Unaddressed)
    assert (found[0], found[1].order) == (GROUP, ORDER)
    return found[1]


@pytest.mark.parametrize("kind", ["refund.created", "refund.updated"])
def test_a_refund_made_in_the_dashboard_is_an_operation_by_hand(kind: str) -> None:
    made = news_of(kind, REFUND).outcome.external
    assert made == i.OutcomeExternal(
        hold="pi_1", operation=d.OPERATION_REFUND, amount_minor=500, currency="EUR", reference="re_1"
    )


@pytest.mark.parametrize(("kind", "status"), [("refund.failed", "failed"), ("refund.updated", "canceled")])
def test_a_refund_that_failed_after_it_succeeded_is_reversed(kind: str, status: str) -> None:
    failed = {**REFUND, "status": status, "failure_reason": "expired_or_canceled_card"}
    by_hand = news_of(kind, failed).outcome
    ours = claim_of(kind, {**failed, "metadata": OURS})
    assert (ours.operation, ours.attempt) == (d.OPERATION_REFUND, 4)
    for outcome in (by_hand, ours):
        made = outcome.refund_reversed
        assert (made.hold, made.amount_minor, made.currency, made.reference) == ("pi_1", 500, "EUR", "re_1")
        assert "expired_or_canceled_card" in made.reason


def test_our_refund_has_its_reference_and_a_pending_one_by_hand_is_no_news_yet() -> None:
    assert claim_of("refund.created", {**REFUND, "metadata": OURS}).refunded.reference == "re_1"
    assert reads().verify_and_parse(*of_stripe("refund.created", {**REFUND, "status": "pending"})) is None
    # A refund of a charge without a payment intent is none of ours.
    assert reads().verify_and_parse(*of_stripe("refund.created", {**REFUND, "payment_intent": None})) is None


@pytest.mark.parametrize(
    ("kind", "status", "state"),
    [
        ("charge.dispute.created", "needs_response", i.DISPUTE_STATE_OPEN),
        ("charge.dispute.updated", "under_review", i.DISPUTE_STATE_OPEN),
        ("charge.dispute.created", "warning_needs_response", i.DISPUTE_STATE_OPEN),
        ("charge.dispute.funds_withdrawn", "needs_response", i.DISPUTE_STATE_OPEN),
        ("charge.dispute.funds_reinstated", "won", i.DISPUTE_STATE_WON),
        ("charge.dispute.closed", "won", i.DISPUTE_STATE_WON),
        ("charge.dispute.closed", "warning_closed", i.DISPUTE_STATE_WON),
        ("charge.dispute.closed", "lost", i.DISPUTE_STATE_LOST),
    ],
)
def test_a_dispute_has_its_state_amounts_and_the_time_for_evidence(
    kind: str, status: str, state: i.DisputeState.ValueType
) -> None:
    made = news_of(kind, {**DISPUTE, "status": status}).outcome.dispute
    assert made == i.OutcomeDispute(
        hold="pi_1",
        dispute="dp_1",
        state=state,
        amount_minor=8900,
        currency="EUR",
        withdrawn_minor=8900,
        fee_minor=2000,
        reason="fraudulent",
        evidence_due_ms=1_700_000_000_000,
    )


def test_an_inquiry_withdraws_nothing_and_a_fee_in_another_currency_is_left_to_the_statement() -> None:
    inquiry = news_of("charge.dispute.created", {**DISPUTE, "balance_transactions": []}).outcome.dispute
    assert (inquiry.withdrawn_minor, inquiry.fee_minor) == (0, 0)
    settled = {"id": "txn_1", "amount": -7700, "fee": 1500, "currency": "gbp"}
    elsewhere = news_of("charge.dispute.created", {**DISPUTE, "balance_transactions": [settled]}).outcome.dispute
    assert (elsewhere.withdrawn_minor, elsewhere.fee_minor) == (8900, 0)


def test_an_early_fraud_warning_names_its_payment() -> None:
    described = {
        "id": "issfr_1",
        "object": "radar.early_fraud_warning",
        "charge": "ch_1",
        "payment_intent": "pi_1",
        "fraud_type": "made_with_stolen_card",
        "actionable": True,
    }
    made = news_of("radar.early_fraud_warning.created", described).outcome.fraud_warning
    assert (made.hold, made.warning, made.reason) == ("pi_1", "issfr_1", "made_with_stolen_card")


def test_a_capture_made_in_the_dashboard_is_an_operation_by_hand() -> None:
    taken = {**INTENT, "status": "succeeded", "amount_received": 1000, "latest_charge": "ch_1"}
    made = claim_of("payment_intent.succeeded", taken).external
    assert (made.operation, made.amount_minor, made.currency) == (d.OPERATION_CAPTURE, 1000, "KWD")
    assert made.reference == "ch_1"


@pytest.mark.parametrize(("environment", "ours"), [("", True), ("production", True), ("staging", False)])
async def test_news_of_another_deployment_on_the_account_are_told_apart(environment: str, ours: bool) -> None:
    locator = Locator(environment)
    one = reads(environment="production", locators={"stripe": locator})
    intent = {**INTENT, "metadata": {**NAMES, "environment": environment}}
    sent = of_stripe("payment_intent.amount_capturable_updated", intent)
    found = one.verify_and_parse(*of_stripe("refund.created", REFUND))
    assert isinstance(found, Unaddressed)
    if ours:
        assert one.verify_and_parse(*sent) is not None
        claim = await one.address("stripe", found, 1)
        assert claim is not None
        assert (claim[0], claim[1].order, claim[1].environment) == (GROUP, ORDER, environment)
    else:
        with pytest.raises(OtherEnvironment):
            one.verify_and_parse(*sent)
        with pytest.raises(OtherEnvironment):
            await one.address("stripe", found, 1)


async def test_news_wait_while_the_provider_can_not_be_asked_for_the_order() -> None:
    found = news_of("refund.created", REFUND)
    for locators in ({}, {"stripe": Locator(error=ResultUnknown("no answer in time"))}):
        with pytest.raises(LookUpFailed):
            await reads(locators=locators).address("stripe", found, 1)
    other = found._replace(hold="pi_of_another_system")
    assert await reads(locators={"stripe": Locator()}).address("stripe", other, 1) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "accepted"), [(False, False, True), (True, True, True), (True, False, False)]
)
def test_an_event_of_the_other_mode_is_not_ours(ours: bool, theirs: bool, accepted: bool) -> None:
    one = reads(stripe_live=lambda: ours)
    event = {"id": "evt_1", "type": "refund.created", "livemode": theirs, "data": {"object": REFUND}}
    sent = "stripe", *signed("Stripe-Signature", STRIPE, event)
    if accepted:
        assert one.verify_and_parse(*sent) is not None
    else:
        with pytest.raises(OtherEnvironment, match="test mode"):
            one.verify_and_parse(*sent)


def test_two_webhook_secrets_are_valid_while_they_rotate() -> None:
    valid = ["whsec_old", "whsec_new"]
    one = notifications_of(stripe_secrets=lambda: tuple(valid))
    old, new = (of_stripe("refund.created", REFUND, secret) for secret in ("whsec_old", "whsec_new"))
    assert one.verify_and_parse(*old) is not None
    assert one.verify_and_parse(*new) is not None
    valid.pop(0)
    assert one.verify_and_parse(*new) is not None
    with pytest.raises(BadSignature):
        one.verify_and_parse(*old)


# WeChat Pay -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signer_and_keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, Path]:
    directory = tmp_path_factory.mktemp("keys")
    return Signer(directory), directory


@pytest.fixture
def account(signer_and_keys: tuple[Signer, Path]) -> MerchantAccount:
    return merchant(signer_and_keys[1])


def wechat_refund(number: str, status: str = "SUCCESS") -> dict[str, Any]:
    return {
        "mchid": "1900000001",
        "out_trade_no": "trade1",
        "transaction_id": "4200000001",
        "out_refund_no": number,
        "refund_id": "50000000001",
        "refund_status": status,
        "user_received_account": "招商银行信用卡0403",
        "amount": {"total": 8900, "refund": 500, "payer_total": 8900, "payer_refund": 500},
    }


def number_of(environment: str = "") -> str:
    call = d.ProviderCall(order=ORDER, operation=d.OPERATION_REFUND, attempt=4)
    return references.refund_number(call, GROUP, environment)


@pytest.mark.parametrize(
    ("kind", "status", "result"),
    [
        ("REFUND.SUCCESS", "SUCCESS", "refunded"),
        ("REFUND.ABNORMAL", "ABNORMAL", "refund_reversed"),
        ("REFUND.CLOSED", "CLOSED", "refund_reversed"),
    ],
)
def test_a_refund_at_wechat_succeeds_is_abnormal_or_is_closed(
    signer_and_keys: tuple[Signer, Path], account: MerchantAccount, kind: str, status: str, result: str
) -> None:
    described = wechat_refund(number_of("production"), status)
    claim = reads(account, "production").verify_and_parse(*of_wechat(signer_and_keys[0], described, kind))
    assert claim is not None
    assert not isinstance(claim, Unaddressed)
    group, outcome = claim
    assert (group, outcome.order, outcome.attempt, outcome.WhichOneof("result")) == (GROUP, ORDER, 4, result)
    made = getattr(outcome, result)
    assert (made.hold, made.amount_minor, made.currency, made.reference) == ("trade1", 500, "CNY", "50000000001")
    with pytest.raises(OtherEnvironment):
        reads(account, "staging").verify_and_parse(*of_wechat(signer_and_keys[0], described, kind))


def test_a_refund_made_in_the_merchant_platform_is_an_operation_by_hand(
    signer_and_keys: tuple[Signer, Path], account: MerchantAccount
) -> None:
    found = reads(account).verify_and_parse(
        *of_wechat(signer_and_keys[0], wechat_refund("50300701342021"), "REFUND.SUCCESS")
    )
    assert isinstance(found, Unaddressed)
    assert found.hold == "trade1"
    assert found.outcome.external == i.OutcomeExternal(
        hold="trade1", operation=d.OPERATION_REFUND, amount_minor=500, currency="CNY", reference="50000000001"
    )
    # A number of ours that is a hash: the refund is looked up.
    hashed = wechat_refund("a" * 64)
    assert reads(account).verify_and_parse(*of_wechat(signer_and_keys[0], hashed, "REFUND.SUCCESS")) is None


def test_a_payment_of_another_deployment_is_not_ours(
    signer_and_keys: tuple[Signer, Path], account: MerchantAccount
) -> None:
    sent = of_wechat(signer_and_keys[0], paid(attach=f"{GROUP}/{ORDER}/sale/2/staging"))
    with pytest.raises(OtherEnvironment):
        reads(account, "production").verify_and_parse(*sent)
    claim = reads(account, "staging").verify_and_parse(*sent)
    assert claim is not None
    assert not isinstance(claim, Unaddressed)
    assert claim[1].environment == "staging"


def test_a_complaint_names_itself(signer_and_keys: tuple[Signer, Path], account: MerchantAccount) -> None:
    described = {"complaint_id": "200201820200101080076610000", "action_type": "CREATE_COMPLAINT"}
    found = reads(account).verify_and_parse(*of_wechat(signer_and_keys[0], described, "COMPLAINT.CREATE"))
    assert isinstance(found, Unaddressed)
    assert (found.hold, found.subject) == ("", "200201820200101080076610000")
    assert found.outcome.dispute.state == i.DISPUTE_STATE_OPEN


# The simulated provider -----------------------------------------------------------------------------------------------

BY_ITSELF = {"order": ORDER, "environment": "", "by_hand": False}


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({**BY_ITSELF, "key": "hand:1", "status": "STATUS_REFUNDED", "by_hand": True}, "external"),
        ({**BY_ITSELF, "key": f"{ORDER}:refund:4", "status": "STATUS_REFUND_REVERSED"}, "refund_reversed"),
        ({**BY_ITSELF, "key": "dp_1", "status": "STATUS_DISPUTE_OPENED"}, "dispute"),
        ({**BY_ITSELF, "key": "dp_1", "status": "STATUS_DISPUTE_LOST"}, "dispute"),
        ({**BY_ITSELF, "key": "fw_1", "status": "STATUS_FRAUD_WARNING"}, "fraud_warning"),
    ],
)
def test_news_of_the_simulated_provider_name_the_order(fields: dict[str, Any], result: str) -> None:
    found = reads().verify_and_parse(*of_simulated(**fields))
    assert found is not None
    assert not isinstance(found, Unaddressed)
    assert (found[0], found[1].order, found[1].WhichOneof("result")) == (GROUP, ORDER, result)
    with pytest.raises(OtherEnvironment):
        reads(environment="production").verify_and_parse(*of_simulated(**{**fields, "environment": "staging"}))
