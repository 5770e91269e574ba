"""Keeps secrets out of logs, by the names of fields.

Must be the last thing that happens to a log entry before it is rendered: tracebacks are text by then, and covered too.
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
)
_NAME = re.compile("|".join(_NAMES), re.IGNORECASE)
# name="value", 'name': 'value', name: value, as texts of protobuf messages, dicts and exceptions have them.
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
    """A structlog processor: the values of secret fields are replaced, at any depth and inside texts."""
    for name, value in event.items():
        event[name] = _clean(name, value)
    return event


def clean_text(text: str) -> str:
    """A text in which what follows the name of a secret field is replaced, and a private key wherever it stands."""
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
    # Protobuf messages, exceptions, whatever else: as the text they would be rendered to.
    return clean_text(str(value))
