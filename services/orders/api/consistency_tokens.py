"""The consistency token of PlaceOrder: the position of the order's fact in its topic. Opaque to callers, not secret."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from eventlog.producing.record_accumulator import Position


class Token(NamedTuple):
    """Position of a record in the orders topic."""

    partition: int
    offset: int


def encode(position: Token | Position) -> str:
    """Encodes a position as URL-safe text."""
    # For digits and a colon base64 has no character that a URL has to escape.
    return binascii.b2a_base64(b"%d:%d" % (position.partition, position.offset), newline=False).decode().rstrip("=")


def decode(text: str) -> Token:
    """Decodes a token. Raises ValueError."""
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("is not a consistency token of PlaceOrder") from error
    partition, _, offset = plain.partition(":")
    if not (partition.isdigit() and offset.isdigit()):
        raise ValueError("is not a consistency token of PlaceOrder")
    return Token(int(partition), int(offset))
