"""WeChat Pay's API v3 over aiohttp: signs what is sent, believes only what WeChat Pay signed, opens what it encrypted.

Written by hand: the maintained library for Python (wechatpayv3) blocks its thread, and its gateway can't be changed.
Must never log keys, nor take an answer with a bad signature for an answer.
Source: https://pay.weixin.qq.com/doc/v3/merchant, "签名生成", "签名验证", "解密回调报文".
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.payments.providers.port import ResultUnknown
from services.payments.providers.signatures import BadSignature, Headers, fresh, single

API = "https://api.mch.weixin.qq.com"
SCHEMA = "WECHATPAY2-SHA256-RSA2048"
#: Headers of a signature, behind `wechatpay-`.
_SIGNED = ("timestamp", "nonce", "signature", "serial")
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class BadSeal(Exception):
    """Not signed by WeChat Pay, not of these minutes, or not encrypted for us. The message says which."""


class WeChatFailed(Exception):
    """WeChat Pay answered with an error: HTTP status, its code, its message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}"[:500])
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Account:
    """Who we are at WeChat Pay. Keys are kept out of its repr."""

    merchant: str
    app: str
    #: Serial number of the merchant's certificate.
    serial: str
    #: Serial number of WeChat Pay's certificate, or the id of its public key.
    platform_serial: str
    private: rsa.RSAPrivateKey
    platform: rsa.RSAPublicKey
    #: The APIv3 key, 32 bytes.
    secret: bytes

    def __repr__(self) -> str:
        return f"Account({self.merchant})"


def account(
    *, merchant: str, app: str, serial: str, platform_serial: str, private: Path, platform: Path, secret: str
) -> Account:
    """Reads the keys. Raises ValueError, naming the file; OSError."""
    try:
        ours = serialization.load_pem_private_key(private.read_bytes(), None)
        theirs = serialization.load_pem_public_key(platform.read_bytes())
    except ValueError as error:
        raise ValueError(f"{private} or {platform} is no PEM key: {error}") from None
    if not isinstance(ours, rsa.RSAPrivateKey) or not isinstance(theirs, rsa.RSAPublicKey):
        raise TypeError(f"{private} and {platform} must be RSA keys")
    if len(secret.encode()) != 32:
        raise ValueError("the APIv3 key must have 32 bytes")
    return Account(merchant, app, serial, platform_serial, ours, theirs, secret.encode())


class WeChatClient:
    """One merchant's connection. Belongs to the event loop of its first call."""

    def __init__(self, who: Account, api_base: str = API) -> None:
        self.who = who
        self._api_base = api_base.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Ends the connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(
        self, method: str, path: str, timeout_s: float, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One call; `path` with its query. Raises WeChatFailed, ResultUnknown."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        text = json.dumps(body, ensure_ascii=False).encode() if body is not None else b""
        headers = {
            "Authorization": _authorisation(self.who, method, path, text),
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Wechatpay-Serial": self.who.platform_serial,
            "User-Agent": "groupbuy",
        }
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.request(
                method, self._api_base + path, data=text or None, headers=headers, timeout=timeout
            ) as answer:
                read = await answer.read()
                status, given = answer.status, answer.headers
        except TimeoutError as error:
            raise ResultUnknown("no answer in time") from error
        except aiohttp.ClientError as error:
            raise ResultUnknown(f"can't be reached: {type(error).__name__}") from error
        if status >= 500:
            # Often from something on the way, and unsigned. Unknown it is either way.
            raise ResultUnknown(f"{status} {_json(read).get('code', '')}")
        try:
            check(self.who, given.items(), read)
        except BadSeal as error:
            raise ResultUnknown(f"an answer that is not WeChat Pay's: {error}") from error
        if status >= 300:
            error_body = _json(read)
            raise WeChatFailed(status, str(error_body.get("code", "")), str(error_body.get("message", "")))
        return _json(read)


def check(who: Account, headers: Headers, body: bytes, now_s: Callable[[], float] = time.time) -> None:
    """Whether WeChat Pay signed a body, within these minutes. Raises BadSeal."""
    given = tuple(headers)
    try:
        timestamp, nonce, encoded, serial = (single(given, f"wechatpay-{name}") for name in _SIGNED)
        fresh(timestamp, now_s())
        signature = base64.b64decode(encoded, validate=True)
    except BadSignature as error:
        raise BadSeal(str(error)) from None
    except ValueError:
        raise BadSeal("unreadable signature") from None
    if not _NONCE.fullmatch(nonce):
        # Lines are signed: with a line feed in it, a nonce could take over a part of the body.
        raise BadSeal("unreadable nonce")
    if serial != who.platform_serial:
        raise BadSeal(f"signed with key {serial[:100]!r}, not {who.platform_serial}")
    try:
        message = f"{timestamp}\n{nonce}\n".encode() + body + b"\n"
        who.platform.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise BadSeal("the signature does not match") from None


def opened(who: Account, resource: Mapping[str, Any]) -> dict[str, Any]:
    """What an encrypted resource says. Raises BadSeal."""
    if resource.get("algorithm") != "AEAD_AES_256_GCM":
        raise BadSeal(f"encrypted with {resource.get('algorithm')}")
    try:
        sealed = base64.b64decode(str(resource["ciphertext"]), validate=True)
        nonce, more = str(resource["nonce"]).encode(), str(resource.get("associated_data") or "").encode()
        read = json.loads(AESGCM(who.secret).decrypt(nonce, sealed, more))
    except (KeyError, ValueError, InvalidTag):
        raise BadSeal("can't be decrypted with our key") from None
    if not isinstance(read, dict):
        raise BadSeal("no object is encrypted in it")
    return read


def pay_sign(who: Account, *lines: str) -> str:
    """Signs what a shopper's app hands to WeChat: each line ends in a line feed."""
    return _signed(who, "".join(f"{line}\n" for line in lines).encode())


def _authorisation(who: Account, method: str, path: str, body: bytes) -> str:
    timestamp, nonce = str(int(time.time())), secrets.token_hex(16)
    signature = _signed(who, f"{method}\n{path}\n{timestamp}\n{nonce}\n".encode() + body + b"\n")
    fields = {
        "mchid": who.merchant,
        "nonce_str": nonce,
        "signature": signature,
        "timestamp": timestamp,
        "serial_no": who.serial,
    }
    return f"{SCHEMA} " + ",".join(f'{name}="{value}"' for name, value in fields.items())


def _signed(who: Account, message: bytes) -> str:
    return base64.b64encode(who.private.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()


def _json(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body) if body else {}
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
