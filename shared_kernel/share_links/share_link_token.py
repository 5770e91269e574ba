"""The token of a share link: a few dozen signed bytes in URL-safe base64 without padding.

It names the group or campaign that the link opens, its inviter, its channel and the link that it forwards. It holds no
personal data and gives no right but to view and to join. Pure: keys and times are arguments. The signature is
HMAC-SHA256 over everything, truncated to 16 bytes, and compared in constant time; before that only the key's id is
used.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from shared_kernel.share_links.share_link_codec import Link, LinkRefused, Refusal, decode, encode, key_id_of, link_id

__all__ = ["Keys", "Link", "LinkRefused", "Refusal", "Verified", "link_id", "require", "require_unexpired"]

SIGNATURE_BYTES = 16
#: Shortest key, in bytes.
KEY_BYTES = 16
#: Characters of the longest token.
MAX_TOKEN = 500

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,16}")
_ALPHABET = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Verified:
    """A link with a valid signature, and its id of 16 hexadecimal digits."""

    link: Link
    link_id: str


class Keys:
    """The keys of links, by id: the first signs, all verify."""

    __slots__ = ("_keys", "_signing")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys` in order. Raises ValueError for an invalid one."""
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise ValueError("a key's id has 1 to 16 letters, digits, - or _")
            if len(key) < KEY_BYTES:
                raise ValueError(f"key {key_id} is shorter than {KEY_BYTES} bytes")
        self._keys = dict(keys)
        self._signing = next(iter(self._keys), "")

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Parses `kid:hex,kid2:hex`; empty for no keys. Raises ValueError; its message contains no key."""
        keys: dict[str, bytes] = {}
        for one in filter(None, (part.strip() for part in text.split(","))):
            key_id, colon, digits = one.partition(":")
            try:
                key = bytes.fromhex(digits)
            except ValueError:
                raise ValueError("a key is written kid:hex, several separated by commas") from None
            if not colon or key_id in keys:
                raise ValueError("a key is written kid:hex, each with a different id")
            keys[key_id] = key
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __repr__(self) -> str:
        return f"Keys({', '.join(self._keys)})"

    def sign(self, link: Link) -> str:
        """The link's token, under the first key. Raises ValueError for a link without an encoding, and without keys."""
        if not self._keys:
            raise ValueError("there is no signing key")
        return self._token(link, self._signing)

    def verify(self, token: str) -> Verified:
        """The link of a token, even if it has expired. Raises LinkRefused MALFORMED, UNKNOWN_KEY or BAD_SIGNATURE."""
        data = _bytes(token)
        signed, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
        key = self._keys.get(key_id_of(signed))
        if key is None:
            raise LinkRefused(Refusal.UNKNOWN_KEY)
        if not hmac.compare_digest(_signature(key, signed), signature):
            raise LinkRefused(Refusal.BAD_SIGNATURE)
        _, link = decode(signed)
        return Verified(link, link_id(link))

    def open(self, token: str, now_s: int) -> Verified:
        """The link of a token that has not expired. Raises LinkRefused as `verify`, and EXPIRED."""
        verified = self.verify(token)
        require_unexpired(verified.link, now_s)
        return verified

    def _token(self, link: Link, key_id: str) -> str:
        signed = encode(link, key_id)
        data = signed + _signature(self._keys[key_id], signed)
        return base64.urlsafe_b64encode(data).decode().rstrip("=")


def require_unexpired(link: Link, now_s: int) -> None:
    """Raises LinkRefused EXPIRED if the link has expired."""
    if now_s >= link.expires_s:
        raise LinkRefused(Refusal.EXPIRED)


def require(link: Link, *, campaign: str, group: str) -> None:
    """Raises LinkRefused unless the link admits an order to the group. `group` is empty for a new group."""
    if link.campaign and link.campaign != campaign:
        raise LinkRefused(Refusal.WRONG_CAMPAIGN)
    if link.group and link.group != group:
        raise LinkRefused(Refusal.WRONG_GROUP)


def _signature(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")[:SIGNATURE_BYTES]


def _bytes(token: str) -> bytes:
    """The decoded bytes. Raises LinkRefused unless the token is their canonical encoding."""
    if len(token) > MAX_TOKEN or not _ALPHABET.fullmatch(token):
        raise LinkRefused(Refusal.MALFORMED)
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        raise LinkRefused(Refusal.MALFORMED) from None
    # Unused bits of the last character must be zero.
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != token or len(data) <= SIGNATURE_BYTES:
        raise LinkRefused(Refusal.MALFORMED)
    return data
