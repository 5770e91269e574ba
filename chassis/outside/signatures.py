"""Signatures of webhooks: verifies exactly the bytes and headers that are read afterwards.

A header that a signature depends on has to occur once. Of two, one could be verified and the other one read.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

#: Name and value of each header, in the order received, repeated headers included.
Headers = Iterable[tuple[str, str]]

#: Largest difference in seconds between a signature's timestamp and now, either way.
TOLERANCE_S = 300
#: Signatures in one header: one for each secret while secrets are rotated.
MAX_SIGNATURES = 8
# ASCII digits alone: int() would also read digits of other scripts, which the sender did not sign.
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class BadSignature(Exception):
    """The webhook is not the sender's, is too old, or was changed. The message says which."""


def single_header(headers: Headers, name: str) -> str:
    """Value of a header that occurs exactly once; `name` in lower case. Raises BadSignature."""
    found = [value for given, value in headers if given.lower() == name]
    if len(found) != 1 or not found[0]:
        raise BadSignature(f"{len(found)} headers {name}, not one with a value")
    return found[0]


def check_timestamp(timestamp: str, now_s: float) -> None:
    """Raises BadSignature unless a timestamp in seconds is within TOLERANCE_S of now."""
    if not _SECONDS.fullmatch(timestamp) or abs(now_s - int(timestamp)) > TOLERANCE_S:
        raise BadSignature(f"the timestamp {timestamp[:20]!r} is more than {TOLERANCE_S} s away")


def check_hmac(header: str, secret: str, body: bytes, now_s: float) -> None:
    """Verifies `t=<seconds>,v1=<hex>[,v1=…]` as Stripe signs: HMAC-SHA256 over `<seconds>.<body>`.

    The header holds one timestamp, the signed one. Schemes other than v1 are ignored, as Stripe's documentation asks.
    Raises BadSignature.
    """
    timestamps, digests = [], []
    for part in header.split(","):
        scheme, separator, value = part.partition("=")
        if not separator or scheme != scheme.strip() or not scheme:
            raise BadSignature("malformed signature header")
        if scheme == "t":
            timestamps.append(value)
        elif scheme == "v1":
            digests.append(value)
    if len(timestamps) != 1 or not 0 < len(digests) <= MAX_SIGNATURES:
        raise BadSignature(f"{len(timestamps)} timestamps and {len(digests)} signatures in the header")
    check_timestamp(timestamps[0], now_s)
    expected = hmac.new(secret.encode(), timestamps[0].encode() + b"." + body, hashlib.sha256).hexdigest()
    if not any(_DIGEST.fullmatch(digest) and hmac.compare_digest(digest, expected) for digest in digests):
        raise BadSignature("the signature does not match")
