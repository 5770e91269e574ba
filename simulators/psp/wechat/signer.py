"""WeChat Pay's side of its signatures and encryption, with the keys of both sides.

Keys are generated once, in a directory that the merchant reads too; the real merchant platform issues them. They are
for tests: their primes are not validated.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MERCHANT = "1900000001"
APP = "wxd678efh567hjk678"
MERCHANT_SERIAL = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1"
PLATFORM_SERIAL = "PUB_KEY_ID_0119000000012025010100000001"
SCHEMA = "WECHATPAY2-SHA256-RSA2048"
#: Seconds that a signed request is accepted for.
TOLERANCE_S = 300

_FIELD = re.compile(r'(\w+)="([^"]*)"')


class Signer:
    """Signs, verifies and encrypts with the keys of the simulated WeChat Pay."""

    def __init__(self, directory: Path) -> None:
        """Reads the keys of a directory, and generates missing ones."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._private = _key(directory, "platform")
        self._merchant = _key(directory, "merchant").public_key()
        secret = directory / "apiv3_key"
        if not secret.exists():
            _write(secret, secrets.token_hex(16).encode())
        self._secret = secret.read_bytes().strip()

    def sign(self, body: bytes) -> dict[str, str]:
        """The headers that sign a body."""
        timestamp, nonce = str(int(time.time())), secrets.token_hex(16)
        message = f"{timestamp}\n{nonce}\n".encode() + body + b"\n"
        signature = self._private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return {
            "Wechatpay-Timestamp": timestamp,
            "Wechatpay-Nonce": nonce,
            "Wechatpay-Signature": base64.b64encode(signature).decode(),
            "Wechatpay-Serial": PLATFORM_SERIAL,
        }

    def verify(self, method: str, path: str, body: bytes, authorisation: str) -> bool:
        """Whether the merchant signed a request within the tolerance."""
        schema, _, rest = authorisation.partition(" ")
        fields = dict(_FIELD.findall(rest))
        try:
            message = f"{method}\n{path}\n{fields['timestamp']}\n{fields['nonce_str']}\n".encode() + body + b"\n"
            signature = base64.b64decode(fields["signature"], validate=True)
            self._merchant.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        except (KeyError, ValueError, InvalidSignature):
            return False
        known = (schema, fields.get("mchid"), fields.get("serial_no")) == (SCHEMA, MERCHANT, MERCHANT_SERIAL)
        return known and abs(time.time() - int(fields["timestamp"])) <= TOLERANCE_S

    def encrypt(self, kind: str, name: str, plain: dict[str, Any]) -> bytes:
        """The body of a notification, encrypted for the merchant."""
        original = {"REFUND": "refund", "COMPLAINT": "complaint"}.get(kind.partition(".")[0], "transaction")
        nonce = secrets.token_hex(6)
        text = json.dumps(plain, ensure_ascii=False).encode()
        ciphertext = AESGCM(self._secret).encrypt(nonce.encode(), text, original.encode())
        body = {
            "id": name,
            "create_time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
            "event_type": kind,
            "resource_type": "encrypt-resource",
            "resource": {
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": base64.b64encode(ciphertext).decode(),
                "nonce": nonce,
                "associated_data": original,
                "original_type": original,
            },
        }
        return json.dumps(body).encode()


def _key(directory: Path, owner: str) -> rsa.RSAPrivateKey:
    path = directory / f"{owner}_private.pem"
    if not path.exists():
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = made.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        private = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (directory / f"{owner}_public.pem").write_bytes(public)
        _write(path, private)
    # A test key: validating its primes each time would only take time.
    loaded = serialization.load_pem_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(loaded, rsa.RSAPrivateKey):
        raise TypeError(f"{path} is no RSA key")
    return loaded


def _write(path: Path, secret: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(secret)
