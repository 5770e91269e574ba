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
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.outside.signatures import BadSignature, Headers, check_timestamp, single_header
from services.payments.providers.credentials import BadCredential, Secrets
from services.payments.providers.wechat.key_files import KeyFiles, load_platform_key, load_private_key

SCHEMA = "WECHATPAY2-SHA256-RSA2048"
API_V3_KEY_BYTES = 32
#: Headers of a signature, without their prefix `wechatpay-`.
_SIGNATURE_HEADERS = ("timestamp", "nonce", "signature", "serial")
_NONCE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def check_api_v3_key(key: str) -> None:
    """Raises BadCredential for a text that is no APIv3 key."""
    if len(key) != API_V3_KEY_BYTES:
        raise BadCredential(f"has {len(key)} characters; the APIv3 key has {API_V3_KEY_BYTES}")


class MerchantAccount:
    """A merchant's account. Its repr contains no key."""

    def __init__(
        self,
        *,
        merchant_id: str,
        app_id: str,
        merchant_keys: KeyFiles[rsa.RSAPrivateKey],
        platform_keys: KeyFiles[rsa.RSAPublicKey],
        api_v3_keys: Secrets,
    ) -> None:
        """The first of several keys is used, and all of them verify or decrypt while keys rotate."""
        self.merchant_id = merchant_id
        self.app_id = app_id
        self._merchant_keys = merchant_keys
        self._platform_keys = platform_keys
        self._api_v3_keys = api_v3_keys

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
        api_v3_key: str = "",
        api_v3_key_file: Path | None = None,
    ) -> Self:
        """Reads an account's keys: files, or directories of files named by serial numbers. Raises BadCredential."""
        return cls(
            merchant_id=merchant_id,
            app_id=app_id,
            merchant_keys=KeyFiles(private_key, serial, load_private_key),
            platform_keys=KeyFiles(platform_key, platform_serial, load_platform_key),
            api_v3_keys=Secrets(api_v3_key, api_v3_key_file, check_api_v3_key),
        )

    @property
    def serials(self) -> tuple[str, ...]:
        """Serial numbers of the merchant's keys, the one for use first."""
        return tuple(serial for serial, _ in self._merchant_keys.pairs())

    @property
    def platform_serial(self) -> str:
        """Serial number of the key that WeChat Pay should sign its answers with."""
        return self._platform_keys.pairs()[0][0]

    def sign(self, message: bytes, serial: str = "") -> str:
        """Base64 of the RSA-SHA256 signature of a message with the merchant's key of a serial number, or the first."""
        pairs = self._merchant_keys.pairs()
        key = next((key for name, key in pairs if name == serial), pairs[0][1])
        return base64.b64encode(key.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()

    def authorization(self, method: str, path: str, body: bytes, serial: str = "") -> str:
        """Authorization header of a request; `path` includes the query. The key is that of `serial`, or the first."""
        name = serial or self.serials[0]
        timestamp, nonce = str(int(time.time())), secrets.token_hex(16)
        signature = self.sign(f"{method}\n{path}\n{timestamp}\n{nonce}\n".encode() + body + b"\n", name)
        fields = {
            "mchid": self.merchant_id,
            "nonce_str": nonce,
            "signature": signature,
            "timestamp": timestamp,
            "serial_no": name,
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
        known = dict(self._platform_keys.pairs())
        key = known.get(serial)
        if key is None:
            raise BadSignature(f"signed with key {serial[:100]!r}, not {' or '.join(known)}")
        try:
            message = f"{timestamp}\n{nonce}\n".encode() + body + b"\n"
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise BadSignature("the signature does not match") from None

    def decrypt(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object of an encrypted resource. Raises BadSignature if it was not encrypted with our key."""
        if resource.get("algorithm") != "AEAD_AES_256_GCM":
            raise BadSignature(f"encrypted with {resource.get('algorithm')}")
        try:
            ciphertext = base64.b64decode(str(resource["ciphertext"]), validate=True)
            nonce, more = str(resource["nonce"]).encode(), str(resource.get("associated_data") or "").encode()
            plain = json.loads(self._decrypted(nonce, ciphertext, more))
        except (KeyError, ValueError, InvalidTag):
            raise BadSignature("can't be decrypted with our key") from None
        if not isinstance(plain, dict):
            raise BadSignature("the encrypted resource is no JSON object")
        return plain

    def _decrypted(self, nonce: bytes, ciphertext: bytes, more: bytes) -> bytes:
        """The plain text, by whichever key decrypts it. Raises InvalidTag, ValueError."""
        failed: Exception = InvalidTag()
        for key in self._api_v3_keys.all():
            try:
                return AESGCM(key.encode()).decrypt(nonce, ciphertext, more)
            except (InvalidTag, ValueError) as error:
                failed = error
        raise failed
