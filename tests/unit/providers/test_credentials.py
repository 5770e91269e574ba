"""Credentials at providers: mistakes end the start and name the variable, and rotated ones are read again. Method: the
settings with planted mistakes, files that change, a clock as a parameter, and servers in place of the providers."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from chassis.lifecycle.settings import load
from chassis.outside.signatures import BadSignature
from services.payments.providers.credentials import RECHECK_S, BadCredential, Secrets
from services.payments.providers.proof import refused_credentials
from services.payments.providers.stripe.credentials import check_key
from services.payments.providers.wechat.client import WeChatClient, WeChatFailed
from services.payments.providers.wechat.key_files import KeyFiles, load_platform_key, load_private_key
from services.payments.providers.wechat.merchant_account import MerchantAccount, check_api_v3_key
from services.payments.settings import PaymentsSettings

KEY, LIVE = "sk_test_0123456789abcdef", "sk_live_0123456789abcdef"
API_V3, NEW_API_V3 = "0" * 32, "1" * 32
OLD, NEW = "PUB_KEY_ID_0001", "PUB_KEY_ID_0002"


def generate() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


FIRST, SECOND = generate(), generate()


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def certificate_pem(key: rsa.RSAPrivateKey, serial: int) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenpay.com")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), serial, now, now + timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "merchant.pem").write_bytes(private_pem(FIRST))
    (tmp_path / "platform.pem").write_bytes(public_pem(FIRST))
    return tmp_path


def wechat(files: Path) -> dict[str, str]:
    return {
        "wechat_merchant": "1900000001",
        "wechat_app": "wxd678efh567hjk678",
        "wechat_serial": "5157F09EFDC096DE15EBE81A47057A7232F1B8E1",
        "wechat_private_key": str(files / "merchant.pem"),
        "wechat_platform_serial": OLD,
        "wechat_platform_key": str(files / "platform.pem"),
        "wechat_apiv3_key": API_V3,
        "wechat_notify_url": "https://shop.example/webhooks/wechat",
    }


def started(capsys: pytest.CaptureFixture[str], **settings: str) -> str:
    """The message with which the start ends; empty if the settings are valid."""
    try:
        load(PaymentsSettings, insecure=True, **settings)
    except SystemExit as end:
        assert end.code == 2
        return capsys.readouterr().err
    return ""


@pytest.mark.parametrize(
    ("settings", "variable", "reason"),
    [
        ({"stripe_key": f"{KEY}\n"}, "STRIPE_KEY", "line feed"),
        ({"stripe_key": f" {KEY}"}, "STRIPE_KEY", "white space"),
        ({"stripe_key": "sk_test_01234567 89abcdef"}, "STRIPE_KEY", "white space"),
        ({"stripe_key": "sk_test_0123"}, "STRIPE_KEY", "is no secret key of Stripe's"),
        ({"stripe_key": "pk_test_0123456789abcdef"}, "STRIPE_KEY", "publishable key"),
        ({"stripe_key": "whsec_0123456789abcdef"}, "STRIPE_KEY", "webhook secret"),
        ({"stripe_key": "-----BEGIN CERTIFICATE-----\nMIIB\n"}, "STRIPE_KEY", "certificate"),
        ({"stripe_key": KEY, "live": "true"}, "STRIPE_KEY", "a test key, but GROUPBUY_PAYMENTS_LIVE is true"),
        ({"stripe_key": LIVE, "live": "false"}, "STRIPE_KEY", "a live key, but GROUPBUY_PAYMENTS_LIVE is false"),
        ({"provider": "127.0.0.1:1", "live": "true"}, "PROVIDER", "simulated provider"),
        ({"stripe_api_base": "http://127.0.0.1:1", "live": "true"}, "STRIPE_API_BASE", "is not https"),
        ({"stripe_webhook_secret": KEY}, "STRIPE_WEBHOOK_SECRET", "key of the API"),
        ({"stripe_webhook_secret": "whsec_0123456789,"}, "STRIPE_WEBHOOK_SECRET", "empty part"),
        ({"environment": "eu west"}, "ENVIRONMENT", "pattern"),
    ],
)
def test_a_mistaken_credential_ends_the_start_with_code_2_and_its_variable(
    capsys: pytest.CaptureFixture[str], settings: dict[str, str], variable: str, reason: str
) -> None:
    message = started(capsys, **settings)
    assert f"GROUPBUY_PAYMENTS_{variable}" in message
    assert reason in message
    for value in settings.values():
        if value.startswith(("sk_", "pk_", "whsec_", "-----")):
            assert value.strip() not in message


@pytest.mark.parametrize(
    ("changed", "variable", "reason"),
    [
        ({"wechat_apiv3_key": "0" * 31}, "WECHAT_APIV3_KEY", "has 31 characters"),
        ({"wechat_private_key": "certificate.pem"}, "WECHAT_PRIVATE_KEY", "is a certificate, not the private key"),
        ({"wechat_private_key": "text.pem"}, "WECHAT_PRIVATE_KEY", "no private key in PEM form"),
        ({"wechat_private_key": "absent.pem"}, "WECHAT_PRIVATE_KEY", "neither a file nor a directory"),
        ({"wechat_platform_key": "merchant.pem"}, "WECHAT_PLATFORM_KEY", "is a private key"),
        ({"wechat_merchant": "19000 00001"}, "WECHAT_MERCHANT", "pattern"),
        ({"wechat_serial": ""}, "WECHAT_SERIAL", "incomplete"),
    ],
)
def test_a_mistaken_credential_of_wechat_ends_the_start(
    capsys: pytest.CaptureFixture[str], files: Path, changed: dict[str, str], variable: str, reason: str
) -> None:
    (files / "certificate.pem").write_bytes(certificate_pem(FIRST, 5))
    (files / "text.pem").write_text("not a key")
    placed = {name: str(files / value) if value.endswith(".pem") else value for name, value in changed.items()}
    message = started(capsys, **{**wechat(files), **placed})
    assert f"GROUPBUY_PAYMENTS_{variable}" in message
    assert reason in message
    assert API_V3[:31] not in message


def test_right_credentials_start_also_from_files_and_directories(
    capsys: pytest.CaptureFixture[str], files: Path
) -> None:
    assert started(capsys) == ""
    assert started(capsys, **wechat(files), stripe_key=LIVE, live="true") == ""
    (files / "stripe").write_text(f"{KEY}\n")
    (files / "secrets").write_text("whsec_0123456789\nwhsec_abcdefghij\n")
    (files / "apiv3").write_text(f"{API_V3}\n{NEW_API_V3}\n")
    for name in ("merchant", "platform"):
        (files / f"{name}_keys").mkdir()
    (files / "merchant_keys" / "5157F09E.pem").write_bytes(private_pem(FIRST))
    (files / "platform_keys" / f"{NEW}.pem").write_bytes(public_pem(FIRST))
    settings = {
        **wechat(files),
        "wechat_serial": "",
        "wechat_platform_serial": "",
        "wechat_private_key": str(files / "merchant_keys"),
        "wechat_platform_key": str(files / "platform_keys"),
        "wechat_apiv3_key": "",
        "wechat_apiv3_key_file": str(files / "apiv3"),
        "stripe_key_file": str(files / "stripe"),
        "stripe_webhook_secret_file": str(files / "secrets"),
    }
    assert started(capsys, **settings) == ""
    assert "set one of them" in started(capsys, **settings, stripe_key=KEY)


def test_a_file_of_secrets_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    file, now_s = tmp_path / "key", 0.0
    file.write_text(KEY)
    secrets = Secrets("", file, check_key, clock=lambda: now_s)
    for content, expected in ((f"{LIVE}\n{KEY}\n", (LIVE, KEY)), ("pk_test_x", (LIVE, KEY)), (f"{KEY}\n", (KEY,))):
        file.write_text(content)
        now_s += RECHECK_S + 0.1
        assert secrets.all() == expected
    assert KEY not in repr(secrets)


def signed(key: rsa.RSAPrivateKey, serial: str, body: bytes) -> list[tuple[str, str]]:
    stamp = str(int(time.time()))
    signature = key.sign(f"{stamp}\nnonce\n".encode() + body + b"\n", padding.PKCS1v15(), hashes.SHA256())
    return [
        ("Wechatpay-Timestamp", stamp),
        ("Wechatpay-Nonce", "nonce"),
        ("Wechatpay-Signature", base64.b64encode(signature).decode()),
        ("Wechatpay-Serial", serial),
    ]


def account_of(merchant: KeyFiles[rsa.RSAPrivateKey], platform: KeyFiles[rsa.RSAPublicKey]) -> MerchantAccount:
    return MerchantAccount(
        merchant_id="1900000001",
        app_id="wx",
        merchant_keys=merchant,
        platform_keys=platform,
        api_v3_keys=Secrets(API_V3, None, check_api_v3_key),
    )


def test_callbacks_are_verified_under_a_public_key_and_a_platform_certificate_side_by_side(tmp_path: Path) -> None:
    """WeChat Pay moves merchants from its certificate to its public key; both sign for a time."""
    now_s, serial = 0.0, f"{0x5157F09E:X}"
    for name in ("merchant", "platform"):
        (tmp_path / name).mkdir()
    (tmp_path / "merchant" / "5157F09E.pem").write_bytes(private_pem(FIRST))
    (tmp_path / "platform" / f"{serial}.pem").write_bytes(certificate_pem(FIRST, 0x5157F09E))
    platform = KeyFiles(tmp_path / "platform", "", load_platform_key, clock=lambda: now_s)
    account = account_of(KeyFiles(tmp_path / "merchant", "", load_private_key), platform)
    account.verify(signed(FIRST, serial, b"{}"), b"{}")
    with pytest.raises(BadSignature, match="signed with key"):
        account.verify(signed(SECOND, NEW, b"{}"), b"{}")
    (tmp_path / "platform" / f"{NEW}.pem").write_bytes(public_pem(SECOND))
    now_s += RECHECK_S + 0.1
    account.verify(signed(FIRST, serial, b"{}"), b"{}")
    account.verify(signed(SECOND, NEW, b"{}"), b"{}")
    with pytest.raises(BadSignature, match="does not match"):
        account.verify(signed(FIRST, NEW, b"{}"), b"{}")
    (tmp_path / "platform" / f"{serial}.pem").unlink()
    now_s += RECHECK_S + 0.1
    with pytest.raises(BadSignature, match="signed with key"):
        account.verify(signed(FIRST, serial, b"{}"), b"{}")


def test_a_certificate_under_another_serial_number_and_a_short_key_are_refused() -> None:
    with pytest.raises(BadCredential, match="is the certificate 5, not 6"):
        load_platform_key(certificate_pem(FIRST, 5), "6")
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(BadCredential, match="2048 bits"):
        load_private_key(private_pem(short), "5")


@asynccontextmanager
async def answering(status: int, body: Mapping[str, object], known: str = "") -> AsyncIterator[tuple[str, list[str]]]:
    """A server with one answer; with `known`, only for requests that do not name this serial number."""
    serials: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        serial = request.headers.get("Authorization", "").partition('serial_no="')[2].partition('"')[0]
        serials.append(serial)
        if known and serial == known:
            text = b'{"code_url": "weixin://x"}'
            return web.Response(body=text, headers=signed(FIRST, OLD, text))
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), serials


async def test_a_merchant_key_that_wechat_does_not_know_is_followed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    old, new = tmp_path / "keys" / "AAAAAAAA.pem", tmp_path / "keys" / "BBBBBBBB.pem"
    old.write_bytes(private_pem(FIRST))
    new.write_bytes(private_pem(SECOND))
    (tmp_path / "platform.pem").write_bytes(public_pem(FIRST))
    platform = KeyFiles(tmp_path / "platform.pem", OLD, load_platform_key)
    account = account_of(KeyFiles(tmp_path / "keys", "", load_private_key), platform)
    # WeChat Pay knows the newer certificate only later.
    unknown = {"code": "SIGN_ERROR", "message": "签名错误"}
    first = account.serials[0]
    other = next(serial for serial in account.serials if serial != first)
    async with answering(401, unknown, known=other) as (url, serials):
        client = WeChatClient(account, url)
        assert (await client.request("GET", "/v3/x", 5))["code_url"] == "weixin://x"
        assert serials == [first, other]
        await client.request("GET", "/v3/x", 5)
        assert serials == [first, other, other], "the refused key comes last from now on"
        await client.close()
    async with answering(401, unknown) as (url, serials):
        client = WeChatClient(account, url)
        with pytest.raises(WeChatFailed, match="SIGN_ERROR"):
            await client.request("GET", "/v3/x", 5)
        await client.close()


def settings_of(stripe: str, **more: str) -> PaymentsSettings:
    values: dict[str, Any] = {"stripe_key": KEY, "stripe_api_base": stripe, **more}
    return PaymentsSettings(insecure=True, **values)


async def test_a_credential_that_the_provider_refuses_ends_the_start_and_an_outage_does_not(files: Path) -> None:
    refusal = {"error": {"type": "invalid_request_error", "code": "api_key_expired", "message": f"Expired: {KEY}"}}
    sign_error = {"code": "SIGN_ERROR", "message": "签名错误"}
    async with answering(401, refusal) as (stripe, _), answering(401, sign_error) as (wechat_pay, _):
        settings = settings_of(stripe, wechat_api_base=wechat_pay, **wechat(files))
        of_stripe, of_wechat = await refused_credentials(settings)
    assert of_stripe == "GROUPBUY_PAYMENTS_STRIPE_KEY is refused: Stripe answers api_key_expired"
    assert of_wechat.startswith("GROUPBUY_PAYMENTS_WECHAT_PRIVATE_KEY or GROUPBUY_PAYMENTS_WECHAT_SERIAL is refused")
    for status in (200, 403, 404, 500):
        async with answering(status, {"object": "balance"}) as (url, _):
            assert await refused_credentials(settings_of(url, wechat_api_base=url, **wechat(files))) == []
    # The provider is down, or there is no account at all.
    assert await refused_credentials(settings_of("http://127.0.0.1:9")) == []
    assert await refused_credentials(PaymentsSettings(insecure=True)) == []
