"""WeChat Pay's official SDK for Java and our code accept each other's signatures and encryption.

Method: one run of the SDK signs, encrypts, verifies and decrypts. It takes the merchant's side against the simulator,
and WeChat Pay's side against our webhook reader.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chassis.outside.signatures import BadSignature
from services.payments.providers.port import Unaddressed
from services.payments.providers.wechat.merchant_account import MerchantAccount
from services.payments.providers.wechat.webhooks import WeChatWebhooks
from simulators.psp.wechat import signer
from tests.contract.peers import wechat_sdk
from tests.contract.peers.fetched import PeerMissing
from tests.provider_simulator import merchant

METHOD, PATH, BODY = "POST", "/v3/pay/transactions/native?a=%C3%BC&b=1", '{"description":"团购订单"}'
MESSAGE = "wxd678efh567hjk678\n1414561699\nnonce\nprepay_id=wx1\n"
ORDER = "11111111-1111-4111-8111-111111111111"
GROUP = "22222222-2222-4222-8222-222222222222"
PAID = {
    "out_trade_no": "number",
    "attach": f"{GROUP}/{ORDER}/sale/1",
    "trade_state": "SUCCESS",
    "amount": {"total": 8900, "currency": "CNY"},
}
EVENT = {
    "id": "EV-1",
    "event_type": "TRANSACTION.SUCCESS",
    "resource_type": "encrypt-resource",
    "resource": {
        "algorithm": "AEAD_AES_256_GCM",
        "ciphertext": "CIPHERTEXT",
        "nonce": "fdasflkja484",
        "associated_data": "transaction",
        "original_type": "transaction",
    },
}


class Peers(NamedTuple):
    """Both sides of this repository, the SDK's answers, and the headers that the SDK was to sign with."""

    account: MerchantAccount
    simulator: signer.Signer
    sdk: dict[str, Any]
    timestamp: str


@pytest.fixture(scope="module")
def peers(wechat_keys: Path) -> Iterator[Peers]:
    simulator, timestamp = signer.Signer(wechat_keys), str(int(time.time()))
    answer, notified = '{"code_url":"weixin://…"}', simulator.encrypt("TRANSACTION.SUCCESS", "EV-2", PAID)
    asked = {
        "merchant": signer.MERCHANT,
        "merchant_serial": signer.MERCHANT_SERIAL,
        "merchant_private": (wechat_keys / "merchant_private.pem").read_text(),
        "platform_serial": signer.PLATFORM_SERIAL,
        "platform_public": (wechat_keys / "platform_public.pem").read_text(),
        "platform_private": (wechat_keys / "platform_private.pem").read_text(),
        "api_v3_key": (wechat_keys / "apiv3_key").read_text().strip(),
        "method": METHOD,
        "path": PATH,
        "body": BODY,
        "message": MESSAGE,
        "answer": {"body": answer, "headers": simulator.sign(answer.encode())},
        "notification": {"body": notified.decode(), "headers": simulator.sign(notified)},
        "timestamp": timestamp,
        "header_nonce": "fdasflkja48412345678901234567890",
        "nonce": EVENT["resource"]["nonce"],  # type: ignore[index]
        "associated_data": "transaction",
        "plain": json.dumps(PAID),
        "event": json.dumps(EVENT),
    }
    try:
        yield Peers(merchant(wechat_keys), simulator, wechat_sdk.answers(asked), timestamp)
    except PeerMissing as missing:
        pytest.skip(str(missing))


def platform_headers(peers: Peers) -> list[tuple[str, str]]:
    """The headers of the notification that the SDK signed as WeChat Pay."""
    return [
        ("Wechatpay-Timestamp", peers.timestamp),
        ("Wechatpay-Nonce", "fdasflkja48412345678901234567890"),
        ("Wechatpay-Signature", peers.sdk["signature"]),
        ("Wechatpay-Serial", signer.PLATFORM_SERIAL),
    ]


def test_the_simulator_accepts_a_request_that_the_sdk_signs(peers: Peers) -> None:
    authorisation = peers.sdk["authorization"]
    assert peers.simulator.verify(METHOD, PATH, BODY.encode(), authorisation)
    assert not peers.simulator.verify(METHOD, PATH, BODY.encode() + b" ", authorisation)
    assert not peers.simulator.verify("GET", PATH, BODY.encode(), authorisation)


def test_the_simulator_accepts_a_request_that_we_sign_as_the_sdk_does(peers: Peers) -> None:
    authorisation = peers.account.authorization(METHOD, PATH, BODY.encode())
    assert peers.simulator.verify(METHOD, PATH, BODY.encode(), authorisation)
    names = [part.partition("=")[0] for part in peers.sdk["authorization"].partition(" ")[2].split(",")]
    ours = [part.partition("=")[0] for part in authorisation.partition(" ")[2].split(",")]
    assert sorted(ours) == sorted(names)
    assert authorisation.partition(" ")[0] == peers.sdk["authorization"].partition(" ")[0]


def test_our_signature_of_a_message_is_the_sdks(peers: Peers) -> None:
    assert peers.account.sign(MESSAGE.encode()) == peers.sdk["merchant_signature"]
    assert peers.account.pay_sign(*MESSAGE.splitlines()) == peers.sdk["merchant_signature"]


def test_the_sdk_accepts_the_simulators_answer_and_refuses_an_altered_one(peers: Peers) -> None:
    assert (peers.sdk["answer_valid"], peers.sdk["altered_answer_valid"]) == (True, False)


def test_the_sdk_reads_the_simulators_notification_and_refuses_an_altered_one(peers: Peers) -> None:
    assert peers.sdk["notification"] == PAID
    assert peers.sdk["altered_notification"] == "ValidationException"


def test_our_reader_accepts_a_notification_of_the_sdk_and_refuses_an_altered_one(peers: Peers) -> None:
    reader, body = WeChatWebhooks(peers.account), peers.sdk["body"].encode()
    claim = reader.read(platform_headers(peers), body)
    assert claim is not None
    assert not isinstance(claim, Unaddressed)
    group, outcome = claim
    assert (group, outcome.order) == (GROUP, ORDER)
    assert outcome.authorised.amount_minor == 8900
    with pytest.raises(BadSignature):
        reader.read(platform_headers(peers), body.replace(b"EV-1", b"EV-2"))
