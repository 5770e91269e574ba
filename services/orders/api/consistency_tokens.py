"""The token of PlaceOrder: where the order's fact stands in its topic. Opaque to callers, and no secret."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from eventlog.producing.record_accumulator import Position


class Token(NamedTuple):
    """A record's place in the orders topic."""

    partition: int
    offset: int


def encode(place: Token | Position) -> str:
    """A record's place as URL-safe text."""
    # Of digits and a colon base64 makes nothing that URLs can't bear.
    return binascii.b2a_base64(b"%d:%d" % (place.partition, place.offset), newline=False).decode().rstrip("=")


def decode(text: str) -> Token:
    """The place that a token names. Raises ValueError for what is no token of ours."""
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("not a token of PlaceOrder") from error
    partition, _, offset = plain.partition(":")
    if not (partition.isdigit() and offset.isdigit()):
        raise ValueError("not a token of PlaceOrder")
    return Token(int(partition), int(offset))
