"""Consistency tokens: how far a read has to have folded the logs. Opaque to callers, not secret.

A token has one part or both, joined by a semicolon and encoded as URL-safe text:

- `partition:offset`, the position of an order's fact in the orders topic, from PlaceOrder;
- `group:version:version`, the last decision about a group and the last one about its payments, 0 for none, from groups
  and payments. `group` is the UUID without hyphens. A version is exact where an offset is not: a group is shown before
  the broker has acknowledged its decision.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple
from uuid import UUID

from eventlog.producing.record_accumulator import Position

_INVALID = "is not a consistency token"


class Token(NamedTuple):
    """Progress that a read waits for."""

    #: Position of a record in the orders topic; -1 for none.
    partition: int = -1
    offset: int = -1
    #: Id of the group, and the versions of its last decision and of its payments' last decision.
    group: str = ""
    group_version: int = 0
    payments_version: int = 0


def encode(position: Token | Position) -> str:
    """Encodes a token, or the position of an order's fact, as URL-safe text."""
    plain = b"%d:%d" % (position.partition, position.offset) if position.offset >= 0 else b""
    if isinstance(position, Token) and position.group:
        key = position.group.replace("-", "").encode()
        versions = b"%b:%d:%d" % (key, position.group_version, position.payments_version)
        plain = plain + b";" + versions if plain else versions
    # For digits, letters, colon and semicolon base64 has no character that a URL has to escape.
    return binascii.b2a_base64(plain, newline=False).decode().rstrip("=")


def decode(text: str) -> Token:
    """Decodes a token. Raises ValueError."""
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError) as error:
        raise ValueError(_INVALID) from error
    token = Token()
    for part in plain.split(";"):
        match part.split(":"):
            case [partition, offset] if token.offset < 0:
                token = token._replace(partition=_number(partition), offset=_number(offset))
            case [group, decided, paid] if not token.group:
                token = token._replace(
                    group=_group(group), group_version=_number(decided), payments_version=_number(paid)
                )
            case _:
                raise ValueError(_INVALID)
    return token


def of_group(group: str, version: int) -> str:
    """The token of a group after its decision `version`."""
    return encode(Token(group=group, group_version=version))


def of_payments(group: str, version: int) -> str:
    """The token of a group's payments after their decision `version`."""
    return encode(Token(group=group, payments_version=version))


def _number(text: str) -> int:
    # Offsets and versions are 64-bit numbers.
    if not (text.isdecimal() and len(text) <= 19):
        raise ValueError(_INVALID)
    return int(text)


def _group(text: str) -> str:
    try:
        group = UUID(hex=text)
    except ValueError as error:
        raise ValueError(_INVALID) from error
    if group.hex != text:
        raise ValueError(_INVALID)
    return str(group)
