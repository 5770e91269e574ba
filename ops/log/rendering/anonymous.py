"""A group's history without personal data.

Ids of customers become `customer 1`, `customer 2` and so on, in the order of the log; a payment method becomes its
provider; the address of a shopper's confirmation is left out. The console shows these lines, and
`groupbuy-ops show --anonymous` prints them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ops.log.history import Entry
from shared_kernel.payment_providers import provider_of

M = TypeVar("M", bound=Message)
#: The fields with personal data, in every message of the log.
PERSONAL_FIELDS = frozenset({"customer", "leader_customer", "inviter", "payment_method", "action_url"})


def anonymous(entries: Iterable[Entry]) -> list[Entry]:
    """Copies of the entries without ids of customers. `entries` have to be the whole history, in its order."""
    names: dict[str, str] = {}
    found = []
    for entry in entries:
        if entry.message is None:
            found.append(entry)
            continue
        copy = type(entry.message)()
        copy.CopyFrom(entry.message)
        for message, field, value in _personal(copy):
            if field == "payment_method":
                shown = provider_of(value) or "another provider"
            elif field == "action_url":
                shown = "the provider's page"
            else:
                shown = names.setdefault(value, f"customer {len(names) + 1}")
            setattr(message, field, shown)
        found.append(replace(entry, message=copy))
    return found


def nameless(message: M) -> M:
    """A copy of one event without ids of customers, where the history that would number them is not at hand."""
    copy = type(message)()
    copy.CopyFrom(message)
    for owner, field, value in _personal(copy):
        if field == "payment_method":
            # A preview of a service cuts it to `…` and four characters, so its provider is not known.
            setattr(owner, field, provider_of(value) or "its provider")
        else:
            setattr(owner, field, "the provider's page" if field == "action_url" else "a customer")
    return copy


def _personal(message: Message) -> Iterator[tuple[Message, str, str]]:
    """Each message within, its field with personal data, and the value."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in [value] if isinstance(value, Message) else value:
                if isinstance(one, Message):
                    yield from _personal(one)
        elif field.name in PERSONAL_FIELDS:
            yield message, field.name, value
