"""Stripe's keys: what a secret key and a webhook secret look like, and whether a key is live."""

from __future__ import annotations

import re

from services.payments.providers.credentials import BadCredential

_KEY = re.compile(r"(sk|rk)_(org_)?(test|live)_[A-Za-z0-9_]{8,250}", re.ASCII)
_LIVE = re.compile(r"(sk|rk)_(org_)?live_", re.ASCII)
#: Beginnings of what is pasted by mistake, and what it is.
_MISTAKEN = {
    "pk_": "is a publishable key, not a secret key",
    "whsec_": "is a webhook secret, not a secret key",
    "acct_": "is the id of an account, not a secret key",
    "mk_": "is the id of a key, not the key itself",
}


def check_key(key: str) -> None:
    """Raises BadCredential for a text that is no secret key of Stripe's."""
    for beginning, what in _MISTAKEN.items():
        if key.startswith(beginning):
            raise BadCredential(what)
    if not _KEY.fullmatch(key):
        raise BadCredential("is no secret key of Stripe's: sk_test_…, sk_live_…, rk_test_… or rk_live_…, uncut")


def check_webhook_secret(secret: str) -> None:
    """Raises BadCredential for a text that is no secret of a webhook endpoint."""
    if secret.startswith(("sk_", "rk_", "pk_")):
        raise BadCredential("is a key of the API, not the secret of a webhook endpoint")
    if not 8 <= len(secret) <= 200:
        raise BadCredential(f"has {len(secret)} characters: is it cut?")


def is_live(key: str) -> bool:
    """Whether a secret key moves real money."""
    return _LIVE.match(key) is not None
