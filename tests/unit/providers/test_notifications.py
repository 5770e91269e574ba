"""A notification is accepted only with a valid, recent signature over exactly its bytes. Method: notifications as the
simulated provider signs them, hand-made ones where they have to be wrong, and a clock as a parameter."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION

from chassis.outside.signatures import BadSignature
from services.payments.providers.notifications import Notifications, NotUnderstood, UnknownProvider
from services.payments.providers.port import Unaddressed
from services.payments.providers.registry import notifications_of
from services.payments.providers.wechat.merchant_account import MerchantAccount
from simulators.psp.wechat.signer import Signer
from tests.provider_simulator import merchant

GROUP, ORDER = "0f1e2d3c-0000-4000-8000-000000000001", "0f1e2d3c-0000-4000-8000-000000000002"
KEY = f"{ORDER}:authorise:2"
NAMES = {"order": ORDER, "group": GROUP, "key": KEY}
STRIPE, OWN = "whsec_test", "own"
Pairs = list[tuple[str, str]]
Sent = tuple[str, Pairs, bytes]


@pytest.fixture(scope="module")
def signer_and_keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, Path]:
    directory = tmp_path_factory.mktemp("keys")
    return Signer(directory), directory


@pytest.fixture
def account(signer_and_keys: tuple[Signer, Path]) -> MerchantAccount:
    return merchant(signer_and_keys[1])


def reads(account: MerchantAccount | None = None, *, later_s: float = 0.0) -> Notifications:
    return notifications_of(
        stripe_secrets=lambda: (STRIPE,), wechat=account, simulated_secret=OWN, now_s=lambda: time.time() + later_s
    )


def signature(text: bytes, at: str, secret: str) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + text, hashlib.sha256).hexdigest()


def signed(header: str, secret: str, body: dict[str, Any]) -> tuple[Pairs, bytes]:
    text, at = json.dumps(body).encode(), str(int(time.time()))
    return [(header, f"t={at},v1={signature(text, at, secret)}")], text


def of_stripe(kind: str, described: dict[str, Any], secret: str = STRIPE) -> Sent:
    body = {"id": "evt_1", "object": "event", "type": kind, "data": {"object": described}}
    return "stripe", *signed("Stripe-Signature", secret, body)


def of_simulated(secret: str = OWN, **fields: Any) -> Sent:
    body = {
        "key": KEY,
        "group": GROUP,
        "status": "STATUS_AUTHORISED",
        "hold": "h",
        "amount_minor": 100,
        "currency": "CNY",
        "capturable_until_ms": 7,
        "reason": "",
        "action_url": "",
        **fields,
    }
    return "simulated", *signed("Simprovider-Signature", secret, body)


def paid(**fields: Any) -> dict[str, Any]:
    return {
        "out_trade_no": "n1",
        "trade_state": "SUCCESS",
        "attach": f"{GROUP}/{ORDER}/sale/2",
        "amount": {"total": 100, "currency": "CNY"},
        **fields,
    }


def of_wechat(one: Signer, described: dict[str, Any], kind: str = "TRANSACTION.SUCCESS") -> Sent:
    body = one.encrypt(kind, "EV-1", described)
    return "wechat", list(one.sign(body).items()), body


INTENT = {
    "id": "pi_1",
    "status": "requires_capture",
    "currency": "kwd",
    "amount": 1230,
    "amount_capturable": 1230,
    "amount_received": 0,
    "created": 1000,
    "metadata": NAMES,
}
TAKEN = {**INTENT, "status": "succeeded", "amount_received": 1000}
CAPTURED_BY = {**NAMES, "capture_key": f"{ORDER}:capture:3"}


@pytest.mark.parametrize(
    ("kind", "described", "expected"),
    [
        ("payment_intent.amount_capturable_updated", INTENT, (d.OPERATION_AUTHORISE, 2, "authorised")),
        ("payment_intent.succeeded", {**TAKEN, "metadata": CAPTURED_BY}, (d.OPERATION_CAPTURE, 3, "captured")),
        # Captured by hand in Stripe's dashboard.
        ("payment_intent.succeeded", TAKEN, (d.OPERATION_UNSPECIFIED, 0, "external")),
        (
            "payment_intent.succeeded",
            {**TAKEN, "metadata": {**NAMES, "key": f"{ORDER}:sale:1"}},
            (d.OPERATION_SALE, 1, "authorised"),
        ),
        ("payment_intent.canceled", {**INTENT, "status": "canceled"}, (d.OPERATION_VOID, 0, "voided")),
        (
            "payment_intent.canceled",
            {**INTENT, "status": "canceled", "cancellation_reason": "automatic"},
            (d.OPERATION_VOID, 0, "hold_gone"),
        ),
        (
            "payment_intent.payment_failed",
            {**INTENT, "status": "requires_payment_method"},
            (d.OPERATION_AUTHORISE, 2, "declined"),
        ),
        (
            "refund.created",
            {
                "id": "re_1",
                "status": "succeeded",
                "payment_intent": "pi_1",
                "amount": 10,
                "currency": "kwd",
                "metadata": {**NAMES, "key": f"{ORDER}:refund:4"},
            },
            (d.OPERATION_REFUND, 4, "refunded"),
        ),
    ],
)
def test_stripe_events_name_their_call(kind: str, described: dict[str, Any], expected: tuple[int, int, str]) -> None:
    claim = reads().verify_and_parse(*of_stripe(kind, described))
    assert claim is not None
    assert not isinstance(claim, Unaddressed)
    group, outcome = claim
    assert (group, outcome.order, outcome.origin) == (GROUP, ORDER, OUTCOME_ORIGIN_NOTIFICATION)
    assert (outcome.operation, outcome.attempt, outcome.WhichOneof("result")) == expected


@pytest.mark.parametrize(
    ("kind", "described"),
    [
        ("customer.created", {"id": "cus_1", "metadata": NAMES}),
        # Of another system that shares the account.
        ("payment_intent.succeeded", {**TAKEN, "metadata": {}}),
        ("payment_intent.succeeded", {**TAKEN, "metadata": {"key": "invoice-7", "group": "x"}}),
        ("refund.created", {"id": "re_1", "status": "pending", "currency": "kwd", "metadata": NAMES}),
    ],
)
def test_events_about_no_order_of_ours_are_ignored(kind: str, described: dict[str, Any]) -> None:
    assert reads().verify_and_parse(*of_stripe(kind, described)) is None


def test_a_genuine_notification_of_unknown_form_is_not_understood() -> None:
    with pytest.raises(NotUnderstood):
        reads().verify_and_parse(*of_stripe("payment_intent.succeeded", {"metadata": NAMES}))
    with pytest.raises(NotUnderstood):
        reads().verify_and_parse(*of_simulated(status="STATUS_NEW"))


def test_wechat_notifications_are_decrypted_and_name_their_order(
    signer_and_keys: tuple[Signer, Path], account: MerchantAccount
) -> None:
    claim = reads(account).verify_and_parse(*of_wechat(signer_and_keys[0], paid()))
    assert claim is not None
    assert (claim[0], claim[1].order, claim[1].attempt) == (GROUP, ORDER, 2)
    assert (claim[1].authorised.hold, claim[1].authorised.amount_minor) == ("n1", 100)
    assert reads(account).verify_and_parse(*of_wechat(signer_and_keys[0], paid(attach="not ours"))) is None


def test_notifications_of_the_simulated_provider_are_read() -> None:
    claim = reads().verify_and_parse(*of_simulated())
    assert claim is not None
    assert (claim[0], claim[1].order, claim[1].attempt, claim[1].authorised.hold) == (GROUP, ORDER, 2, "h")


@pytest.fixture(params=["stripe", "wechat", "simulated"])
def sent(request: pytest.FixtureRequest, signer_and_keys: tuple[Signer, Path]) -> Sent:
    made: dict[str, Callable[[], Sent]] = {
        "stripe": lambda: of_stripe("payment_intent.succeeded", TAKEN),
        "wechat": lambda: of_wechat(signer_and_keys[0], paid()),
        "simulated": of_simulated,
    }
    return made[request.param]()


def test_a_duplicate_yields_the_same_claim(sent: Sent, account: MerchantAccount) -> None:
    one = reads(account)
    first, second = one.verify_and_parse(*sent), one.verify_and_parse(*sent)
    assert first == second
    assert first is not None


def test_a_changed_body_is_refused(sent: Sent, account: MerchantAccount) -> None:
    provider, headers, body = sent
    for changed in (body.replace(b"1", b"2", 1), body + b" ", b"", b"\xff\xfe"):
        with pytest.raises(BadSignature):
            reads(account).verify_and_parse(provider, headers, changed)


def test_missing_or_malformed_signature_headers_are_refused(sent: Sent, account: MerchantAccount) -> None:
    provider, headers, body = sent
    for name, _ in headers:
        for value in (None, "", "t=x,v1=y", "nonsense", "t=,v1=", "\u0661", " ", "1_0"):
            broken = [(one, old) for one, old in headers if one != name]
            if value is not None:
                broken.append((name, value))
            with pytest.raises(BadSignature):
                reads(account).verify_and_parse(provider, broken, body)


def test_a_repeated_signature_header_is_refused(sent: Sent, account: MerchantAccount) -> None:
    """Of two, one could be verified and the other read. The same value twice is refused as well."""
    provider, headers, body = sent
    for name, value in headers:
        for other in (value, "t=1,v1=00", "1"):
            for both in ([*headers, (name.upper(), other)], [(name.swapcase(), other), *headers]):
                with pytest.raises(BadSignature):
                    reads(account).verify_and_parse(provider, both, body)
    reads(account).verify_and_parse(provider, [*headers, ("X-Other", "1"), ("X-Other", "2")], body)


@pytest.mark.parametrize("provider", ["stripe", "simulated"])
def test_only_the_signed_timestamp_counts(provider: str) -> None:
    """A notification captured yesterday does not become recent by a second timestamp beside the signed one."""
    (_, [(name, _)], body), secret = {
        "stripe": (of_stripe("payment_intent.succeeded", TAKEN), STRIPE),
        "simulated": (of_simulated(), OWN),
    }[provider]
    old, now = str(int(time.time()) - 86_400), str(int(time.time()))
    captured, fresh = f"t={old},v1={signature(body, old, secret)}", f"t={now},v1={signature(body, now, secret)}"
    good = signature(body, now, secret)
    for wrong in (
        captured,
        f"{captured},t={now}",
        f"t={now},{captured}",
        f"{fresh},t={now}",
        f"{fresh},t={old}",
        f"t={now} ,v1={good}",
        f"t= {now},v1={good}",
        f"t=+{now},v1={good}",
        f"t=0{now}0,v1={good}",
        f"T={now},v1={good}",
        f"t={now},V1={good}",
        f"t={now},v1={good.upper()}",
        f"t={now},v1={good[:-1]}",
        f"t={now},v0={good}",
        f"t={now}",
        f"v1={good}",
        f"{fresh},",
        f"t={now}," + ",".join([f"v1={'0' * 64}"] * 8 + [f"v1={good}"]),
    ):
        with pytest.raises(BadSignature):
            reads().verify_and_parse(provider, [(name, wrong)], body)
    # Two secrets during rotation, and a scheme of Stripe's test mode.
    for right in (fresh, f"t={now},v1={'0' * 64},v1={good}", f"t={now},v1={good},v0=anything"):
        assert reads().verify_and_parse(provider, [(name, right)], body) is not None


def test_a_nonce_with_a_line_of_the_body_is_refused(
    signer_and_keys: tuple[Signer, Path], account: MerchantAccount
) -> None:
    """WeChat Pay signs lines. Moved into the nonce, the first line of a body would be verified but not parsed."""
    body = b'{"first": 1}\n' + signer_and_keys[0].encrypt("TRANSACTION.SUCCESS", "EV-1", paid())
    headers = dict(signer_and_keys[0].sign(body))
    name = next(one for one in headers if one.lower() == "wechatpay-nonce")
    headers[name] += '\n{"first": 1}'
    with pytest.raises(BadSignature, match="nonce"):
        reads(account).verify_and_parse("wechat", headers.items(), body.partition(b"\n")[2])


def test_a_body_in_another_encoding_than_utf_8_is_not_understood() -> None:
    text = json.dumps({"type": "payment_intent.succeeded", "data": {"object": TAKEN}}).encode("utf-16")
    at = str(int(time.time()))
    header = [("Stripe-Signature", f"t={at},v1={signature(text, at, STRIPE)}")]
    with pytest.raises(NotUnderstood):
        reads().verify_and_parse("stripe", header, text)


@pytest.mark.parametrize("later_s", [310.0, -310.0])
def test_a_timestamp_that_is_minutes_away_is_refused(sent: Sent, account: MerchantAccount, later_s: float) -> None:
    with pytest.raises(BadSignature, match="away"):
        reads(account, later_s=later_s).verify_and_parse(*sent)


def test_a_signature_with_another_key_is_refused(tmp_path: Path, account: MerchantAccount) -> None:
    for forged in (
        of_stripe("payment_intent.succeeded", TAKEN, "whsec_other"),
        of_simulated("other"),
        of_wechat(Signer(tmp_path), paid()),
    ):
        with pytest.raises(BadSignature):
            reads(account).verify_and_parse(*forged)


def test_a_signed_body_encrypted_with_another_key_is_refused(
    signer_and_keys: tuple[Signer, Path], account: MerchantAccount
) -> None:
    event = json.loads(signer_and_keys[0].encrypt("TRANSACTION.SUCCESS", "EV-1", paid()))
    event["resource"]["nonce"] = "x" * 12
    body = json.dumps(event).encode()
    with pytest.raises(BadSignature, match="decrypted"):
        reads(account).verify_and_parse("wechat", signer_and_keys[0].sign(body).items(), body)


def test_without_a_secret_notifications_are_refused(sent: Sent) -> None:
    with pytest.raises(UnknownProvider):
        notifications_of().verify_and_parse(*sent)
    with pytest.raises(UnknownProvider):
        reads().verify_and_parse("paypal", [], b"{}")


def test_errors_contain_no_secret(signer_and_keys: tuple[Signer, Path], account: MerchantAccount) -> None:
    assert (signer_and_keys[1] / "apiv3_key").read_text() not in repr(account)
    with pytest.raises(BadSignature) as caught:
        reads().verify_and_parse(*of_simulated("other"))
    assert OWN not in str(caught.value).split()
