"""Signatures of providers' notifications, verified over exactly the bytes and headers that are read afterwards.

A header that a signature depends on must come once: of two, one would be verified and the other read. Numbers are ASCII
digits, as they were signed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

#: Name and value of each header, in the order in which they came.
Headers = Iterable[tuple[str, str]]

#: A signature is good for so long, either way.
TOLERANCE_S = 300
#: Signatures in one header: one for each secret while secrets are exchanged.
MAX_SIGNATURES = 8
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class BadSignature(Exception):
    """Not the provider's, not of these minutes, or changed on the way. The message says which."""


def single(headers: Headers, name: str) -> str:
    """The value of a header that must come once; `name` in lower case. Raises BadSignature."""
    found = [value for given, value in headers if given.lower() == name]
    if len(found) != 1 or not found[0]:
        raise BadSignature(f"{len(found)} headers {name}, not one with a value")
    return found[0]


def fresh(stamp: str, now_s: float) -> None:
    """Raises BadSignature unless a timestamp is of these minutes."""
    if not _SECONDS.fullmatch(stamp) or abs(now_s - int(stamp)) > TOLERANCE_S:
        raise BadSignature(f"the timestamp {stamp[:20]!r} is more than {TOLERANCE_S} s away")


def check_hmac(header: str, secret: str, body: bytes, now_s: float) -> None:
    """Verifies `t=<seconds>,v1=<hex>[,v1=…]`, as Stripe signs: HMAC-SHA256 over `<seconds>.<body>`.

    The one timestamp is the one that is signed. Other schemes than v1 are ignored, as Stripe asks for. Raises
    BadSignature.
    """
    stamps, digests = [], []
    for part in header.split(","):
        scheme, separator, value = part.partition("=")
        if not separator or scheme != scheme.strip() or not scheme:
            raise BadSignature("the signature header can't be read")
        if scheme == "t":
            stamps.append(value)
        elif scheme == "v1":
            digests.append(value)
    if len(stamps) != 1 or not 0 < len(digests) <= MAX_SIGNATURES:
        raise BadSignature(f"{len(stamps)} timestamps and {len(digests)} signatures in the header")
    fresh(stamps[0], now_s)
    expected = hmac.new(secret.encode(), stamps[0].encode() + b"." + body, hashlib.sha256).hexdigest()
    if not any(_DIGEST.fullmatch(digest) and hmac.compare_digest(digest, expected) for digest in digests):
        raise BadSignature("the signature does not match")
