"""The content of a share link and its encoding, unsigned. Pure; share_link_token.py adds the signature.

A link has exactly one encoding under a key id. Bytes that decode to a link but are not its encoding are refused, so
that no token can pass for another. Every length is checked.

Integers are big-endian; a `varint` is protobuf's:

    version 1 | key id: length, text | kind 1 | group: 16 bytes, or campaign: length, text
    | inviter kind 1: 16 bytes of a UUID, or length, text | channel varint | depth varint
    | parent: 8 bytes where depth > 1 | issued 4, seconds | expires 4, seconds
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from uuid import UUID

VERSION = 1
LINK_ID_BYTES = 8
#: Length of a chain of links in which each forwards the one before.
MAX_DEPTH = 100
MAX_CHANNEL = 65_535
#: Bytes of an id in UTF-8.
MAX_TEXT_BYTES = 200
#: Seconds since the epoch: until 2106.
MAX_TIME_S = 2**32 - 1

_GROUP, _CAMPAIGN = 1, 2
_INVITER_UUID, _INVITER_TEXT = 1, 2


class Refusal(Enum):
    """The reasons for which a token is refused. The values are the messages."""

    MALFORMED = "is no share link token"
    UNKNOWN_KEY = "is signed with an unknown or retired key"
    BAD_SIGNATURE = "has an invalid signature"
    EXPIRED = "has expired"
    WRONG_CAMPAIGN = "is for another campaign"
    WRONG_GROUP = "is for another group"


class LinkRefused(Exception):
    """A token is refused."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(f"the share link {reason.value}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Link:
    """The content of a token. Exactly one of `group` and `campaign` is set; ids are bare."""

    inviter: str
    #: A value of ShareChannel, known or not.
    channel: int
    #: Seconds since the epoch.
    issued_s: int
    expires_s: int
    group: str = ""
    campaign: str = ""
    #: 1 for a link that forwards no other.
    depth: int = 1
    #: Id of the forwarded link, in hexadecimal; empty without one.
    parent: str = ""


def link_id(link: Link) -> str:
    """Id of a link; independent of the signing key."""
    return sha256(encode(link, "")).hexdigest()[: 2 * LINK_ID_BYTES]


# Encoding ---------------------------------------------------------------------------------------------------------


def encode(link: Link, key_id: str) -> bytes:
    """All bytes of a token but its signature. Raises ValueError for a link without an encoding."""
    if bool(link.group) == bool(link.campaign):
        raise ValueError("a link opens either a group or a campaign")
    if not 1 <= link.depth <= MAX_DEPTH or (link.depth > 1) != bool(link.parent):
        raise ValueError(f"a depth is 1 without a parent, and 2 to {MAX_DEPTH} with one")
    if not 1 <= link.channel <= MAX_CHANNEL:
        raise ValueError(f"a channel is 1 to {MAX_CHANNEL}")
    if not (0 <= link.issued_s <= MAX_TIME_S and 0 <= link.expires_s <= MAX_TIME_S):
        raise ValueError("a time is in seconds since the epoch, before 2106")
    parts = (
        bytes((VERSION,)),
        _text(key_id),
        bytes((_GROUP,)) + UUID(link.group).bytes if link.group else bytes((_CAMPAIGN,)) + _text(link.campaign),
        _inviter(link.inviter),
        _varint(link.channel),
        _varint(link.depth),
        bytes.fromhex(link.parent),
        link.issued_s.to_bytes(4, "big"),
        link.expires_s.to_bytes(4, "big"),
    )
    return b"".join(parts)


def _inviter(inviter: str) -> bytes:
    try:
        uuid = UUID(inviter)
    except ValueError:
        return bytes((_INVITER_TEXT,)) + _text(inviter)
    # Other spellings of the same UUID are other ids.
    return bytes((_INVITER_UUID,)) + uuid.bytes if str(uuid) == inviter else bytes((_INVITER_TEXT,)) + _text(inviter)


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) > MAX_TEXT_BYTES:
        raise ValueError(f"an id has at most {MAX_TEXT_BYTES} bytes")
    return bytes((len(data),)) + data


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


# Decoding ---------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads a token's bytes from the front. Raises LinkRefused if there are too few."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise LinkRefused(Refusal.MALFORMED)
        self._at += count
        return taken

    def number(self) -> int:
        return self.take(1)[0]

    def text(self) -> str:
        try:
            return self.take(self.number()).decode()
        except UnicodeDecodeError:
            raise LinkRefused(Refusal.MALFORMED) from None

    def varint(self) -> int:
        value = 0
        for shift in range(0, 28, 7):
            byte = self.number()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise LinkRefused(Refusal.MALFORMED)


def key_id_of(signed: bytes) -> str:
    """Id of the key that a token claims to be signed with. Use it only to find the key."""
    reader = _Reader(signed)
    if reader.number() != VERSION:
        raise LinkRefused(Refusal.MALFORMED)
    return reader.text()


def decode(signed: bytes) -> tuple[str, Link]:
    """The key id and the link of these bytes. Raises LinkRefused unless they are exactly the link's encoding."""
    reader = _Reader(signed)
    reader.number()
    key_id = reader.text()
    try:
        kind = reader.number()
        group = str(UUID(bytes=reader.take(16))) if kind == _GROUP else ""
        campaign = reader.text() if kind == _CAMPAIGN else ""
        inviter = str(UUID(bytes=reader.take(16))) if reader.number() == _INVITER_UUID else reader.text()
        channel, depth = reader.varint(), reader.varint()
        parent = reader.take(LINK_ID_BYTES).hex() if depth > 1 else ""
        issued_s, expires_s = (int.from_bytes(reader.take(4), "big") for _ in range(2))
        link = Link(inviter, channel, issued_s, expires_s, group, campaign, depth, parent)
        if encode(link, key_id) != signed:
            raise LinkRefused(Refusal.MALFORMED)
    except ValueError:
        raise LinkRefused(Refusal.MALFORMED) from None
    return key_id, link
