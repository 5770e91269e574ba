"""What a share link says, and the bytes that say it, unsigned. Pure; see links.py for the signature.

One link has one encoding under one key id: what decodes to a link but is not its encoding is refused, so that no token
can be dressed up as another. Must never believe a length.

Whole numbers are big-endian, a `varint` is as protobuf writes it:

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
#: Links in a row, each a forward of the one before.
MAX_DEPTH = 100
MAX_CHANNEL = 65_535
#: Bytes of an id at most, in UTF-8.
MAX_TEXT_BYTES = 200
#: Seconds since the epoch: until 2106.
MAX_TIME_S = 2**32 - 1

_GROUP, _CAMPAIGN = 1, 2
_INVITER_UUID, _INVITER_TEXT = 1, 2


class Refusal(Enum):
    """Why a token is not accepted."""

    MALFORMED = "it is no token of a share link"
    UNKNOWN_KEY = "it is signed with a key that is not, or no longer, known"
    BAD_SIGNATURE = "its signature does not hold"
    EXPIRED = "it has expired"
    WRONG_CAMPAIGN = "it is of another campaign"
    WRONG_GROUP = "it is of another group"


class LinkRefused(Exception):
    """A token is not accepted."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(f"the share link can't be used: {why.value}")
        self.why = why


@dataclass(frozen=True, slots=True)
class Link:
    """What a token says. Exactly one of `group` and `campaign` is set; ids are bare."""

    inviter: str
    #: A value of ShareChannel, known or not.
    channel: int
    #: Seconds since the epoch.
    issued_s: int
    expires_s: int
    group: str = ""
    campaign: str = ""
    #: 1 for a link made from scratch.
    depth: int = 1
    #: Id of the link that it forwards, in hexadecimal; empty: none.
    parent: str = ""


def link_id(link: Link) -> str:
    """Id of a link: the same whatever key signs it."""
    return sha256(encode(link, "")).hexdigest()[: 2 * LINK_ID_BYTES]


# Encoding ---------------------------------------------------------------------------------------------------------


def encode(link: Link, key_id: str) -> bytes:
    """All of a token but its signature. Raises ValueError for a link that can't be said."""
    if bool(link.group) == bool(link.campaign):
        raise ValueError("a link opens either a group or a campaign")
    if not 1 <= link.depth <= MAX_DEPTH or (link.depth > 1) != bool(link.parent):
        raise ValueError(f"a link made from scratch has depth 1, a forward has a parent and at most {MAX_DEPTH}")
    if not 1 <= link.channel <= MAX_CHANNEL:
        raise ValueError(f"a channel is 1 to {MAX_CHANNEL}")
    if not (0 <= link.issued_s <= MAX_TIME_S and 0 <= link.expires_s <= MAX_TIME_S):
        raise ValueError("a time is in seconds since the epoch, until 2106")
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
    # Other spellings of the same number are other ids.
    return bytes((_INVITER_UUID,)) + uuid.bytes if str(uuid) == inviter else bytes((_INVITER_TEXT,)) + _text(inviter)


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) > MAX_TEXT_BYTES:
        raise ValueError(f"an id has {MAX_TEXT_BYTES} bytes at most")
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
    """Takes a token's bytes apart from the front. Raises LinkRefused where there are too few."""

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
    """Id of the key that a token says it is signed with: enough to look for the key, and not believed further."""
    reader = _Reader(signed)
    if reader.number() != VERSION:
        raise LinkRefused(Refusal.MALFORMED)
    return reader.text()


def decode(signed: bytes) -> tuple[str, Link]:
    """The key id and the link that these bytes say. Raises LinkRefused unless they are exactly the link's encoding."""
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
