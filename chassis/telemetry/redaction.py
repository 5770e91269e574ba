"""Redacts secrets and personal data in logs, by the names of fields.

Runs last before an entry is rendered: tracebacks are text by then and are redacted too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

REDACTED = "[redacted]"

_NAMES = (
    "payment_method",
    "action_url",
    "password",
    "secret",
    "token",
    "authorization",
    "credential",
    "api_?key",
    "private_?key",
    "link_?keys?",
    "share_?link",
    "parent_?link",
    "sasl",
    "signature",
    "cookie",
    # Personal data: people's opaque ids at the shop.
    "customer",
    "inviter",
)
_NAME = re.compile("|".join(_NAMES), re.IGNORECASE)
# name="value", 'name': 'value', name: value, as in the texts of protobuf messages, dicts and exceptions.
_IN_TEXT = re.compile(
    rf"""(?P<name>[\w.-]*(?:{"|".join(_NAMES)})[\w.-]*\\?["']?\s*[:=]\s*)"""
    r"""(?:\\?"(?:[^"\\]|\\[^"])*\\?"|\\?'(?:[^'\\]|\\[^'])*\\?'|(?:Bearer\s+|Basic\s+)?[^\s"',;)}\]]+)""",
    re.IGNORECASE,
)

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def is_secret(name: str) -> bool:
    """Whether a field of this name may hold a secret."""
    return _NAME.search(name) is not None


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that replaces the values of secret fields, at any depth and inside texts."""
    for name, value in event.items():
        event[name] = _clean(name, value)
    return event


def clean_text(text: str) -> str:
    """Replaces the values after the names of secret fields in a text, and private keys anywhere."""
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(REDACTED, text)
    if _NAME.search(text) is None:
        return text
    return _IN_TEXT.sub(rf"\g<name>{REDACTED}", text)


def _clean(name: str, value: Any) -> Any:
    if is_secret(name):
        return REDACTED
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {str(key): _clean(str(key), one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean("", one) for one in value]
    # Protobuf messages, exceptions and others: as their rendered text.
    return clean_text(str(value))
