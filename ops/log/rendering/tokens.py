"""Tokens of payment methods and confirmation links in output: the last four characters are enough to recognise one.

The log has them whole, since a provider is called with them. Output ends up in terminals, tickets and chats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar
from urllib.parse import urlsplit

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from shared_kernel.payment_providers import CAPABILITIES, masked

M = TypeVar("M", bound=Message)


def shown_method(payment_method: str) -> str:
    """A payment method for people. The name of a provider is no token and stays."""
    return payment_method if payment_method in CAPABILITIES or " " in payment_method else masked(payment_method)


def shown_link(url: str) -> str:
    """A confirmation link for people: its host and its last four characters. Another text than a link stays."""
    if " " in url or ":" not in url:
        return url
    found = urlsplit(url)
    start = f"{found.scheme}://{found.netloc}/" if found.netloc else f"{found.scheme}:"
    rest = url.removeprefix(start)
    return f"{start}…{rest[-4:] if len(rest) > 8 else ''}"


_SHOWN = {"payment_method": shown_method, "action_url": shown_link}


def without_tokens(message: M) -> M:
    """The message, or a copy in which tokens and links are cut to their last four characters."""
    if next(_tokens(message), None) is None:
        return message
    copy = type(message)()
    copy.CopyFrom(message)
    for owner, field in _tokens(copy):
        setattr(owner, field, _SHOWN[field](getattr(owner, field)))
    return copy


def _tokens(message: Message) -> Iterator[tuple[Message, str]]:
    """Each message within that has a token, and the field of it."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in [value] if isinstance(value, Message) else value:
                if isinstance(one, Message):
                    yield from _tokens(one)
        elif field.name in _SHOWN:
            yield message, field.name
