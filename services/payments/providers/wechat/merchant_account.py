"""A merchant's account at WeChat Pay: its keys, and the signatures and the encryption of API v3.

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
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.outside.signatures import BadSignature, Headers, check_timestamp, single_header

SCHEMA = "WECHATPAY2-SHA256-RSA2048"
#: Headers of a signature, without their prefix `wechatpay-`.
_SIGNATURE_HEADERS = ("timestamp", "nonce", "signature", "serial")
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class MerchantAccount:
    """A merchant's account. Its repr contains no key."""

    merchant_id: str
    app_id: str
    #: Serial number of the merchant's certificate.
    serial: str
    #: Serial number of WeChat Pay's certificate, or the id of its public key.
    platform_serial: str
    private_key: rsa.RSAPrivateKey
    platform_key: rsa.RSAPublicKey
    #: The APIv3 key, 32 bytes.
    api_v3_key: bytes

    def __repr__(self) -> str:
        return f"MerchantAccount({self.merchant_id})"

    @classmethod
    def load(
        cls,
        *,
        merchant_id: str,
        app_id: str,
        serial: str,
        platform_serial: str,
        private_key: Path,
        platform_key: Path,
        api_v3_key: str,
    ) -> Self:
        """Reads the PEM files of an account. Raises ValueError and TypeError, which name the file; OSError."""
        try:
            private = serialization.load_pem_private_key(private_key.read_bytes(), None)
            platform = serialization.load_pem_public_key(platform_key.read_bytes())
        except ValueError as error:
            raise ValueError(f"{private_key} or {platform_key} is no PEM key: {error}") from None
        if not isinstance(private, rsa.RSAPrivateKey) or not isinstance(platform, rsa.RSAPublicKey):
            raise TypeError(f"{private_key} and {platform_key} must be RSA keys")
        if len(api_v3_key.encode()) != 32:
            raise ValueError("the APIv3 key must have 32 bytes")
        return cls(merchant_id, app_id, serial, platform_serial, private, platform, api_v3_key.encode())

    def sign(self, message: bytes) -> str:
        """Base64 of the merchant's RSA-SHA256 signature of a message."""
        return base64.b64encode(self.private_key.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()

    def authorization(self, method: str, path: str, body: bytes) -> str:
        """Authorization header of a request; `path` includes the query."""
        timestamp, nonce = str(int(time.time())), secrets.token_hex(16)
        signature = self.sign(f"{method}\n{path}\n{timestamp}\n{nonce}\n".encode() + body + b"\n")
        fields = {
            "mchid": self.merchant_id,
            "nonce_str": nonce,
            "signature": signature,
            "timestamp": timestamp,
            "serial_no": self.serial,
        }
        return f"{SCHEMA} " + ",".join(f'{name}="{value}"' for name, value in fields.items())

    def pay_sign(self, *lines: str) -> str:
        """Signature of the parameters that a shopper's app hands to WeChat, each followed by a line feed."""
        return self.sign("".join(f"{line}\n" for line in lines).encode())

    def verify(self, headers: Headers, body: bytes, now_s: Callable[[], float] = time.time) -> None:
        """Verifies that WeChat Pay signed a body within the tolerance. Raises BadSignature."""
        given = tuple(headers)
        timestamp, nonce, encoded, serial = (single_header(given, f"wechatpay-{name}") for name in _SIGNATURE_HEADERS)
        check_timestamp(timestamp, now_s())
        try:
            signature = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise BadSignature("unreadable signature") from None
        if not _NONCE.fullmatch(nonce):
            # The signature covers lines: a line feed in the nonce could take over a part of the body.
            raise BadSignature("unreadable nonce")
        if serial != self.platform_serial:
            raise BadSignature(f"signed with key {serial[:100]!r}, not {self.platform_serial}")
        try:
            message = f"{timestamp}\n{nonce}\n".encode() + body + b"\n"
            self.platform_key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise BadSignature("the signature does not match") from None

    def decrypt(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object of an encrypted resource. Raises BadSignature if it was not encrypted with our key."""
        if resource.get("algorithm") != "AEAD_AES_256_GCM":
            raise BadSignature(f"encrypted with {resource.get('algorithm')}")
        try:
            ciphertext = base64.b64decode(str(resource["ciphertext"]), validate=True)
            nonce, more = str(resource["nonce"]).encode(), str(resource.get("associated_data") or "").encode()
            plain = json.loads(AESGCM(self.api_v3_key).decrypt(nonce, ciphertext, more))
        except (KeyError, ValueError, InvalidTag):
            raise BadSignature("can't be decrypted with our key") from None
        if not isinstance(plain, dict):
            raise BadSignature("the encrypted resource is no JSON object")
        return plain
