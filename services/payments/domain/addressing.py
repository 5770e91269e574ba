"""Ids of the payments that a provider reports without ids of ours. One function for webhooks and statements.

A hold identifies money, so its derived ids depend on the provider and the hold alone: both ways lead to one payment.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID, uuid5

from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

#: Namespace of the ids of payments that this system never requested. With another one, duplicates would be new.
NAMESPACE = UUID("5f0c7f0e-6f0b-5f0a-9d58-3f1f8f6f5b7d")


class Address(NamedTuple):
    """The group and the order of a payment."""

    group: str
    order: str


def is_id(text: str) -> bool:
    """Whether a text is a UUID in canonical spelling. Another spelling of the same number would be another key."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _derived(provider: str, *parts: str) -> str:
    return str(uuid5(NAMESPACE, "/".join((provider, *parts))))


def hold_of(outcome: ProviderOutcome) -> str:
    """The hold that an outcome is about; empty if it names none."""
    hold: str = getattr(getattr(outcome, outcome.WhichOneof("result") or "", None), "hold", "")
    return hold


def address_of(provider: str, group: str, outcome: ProviderOutcome) -> Address:
    """The payment of an outcome that a provider reported. Ids that are not ours are replaced by derived ones.

    `provider` is the provider's name. An outcome without a hold moved no money, and its content identifies it.
    """
    hold = hold_of(outcome)
    if hold:
        return address_of_hold(provider, group, outcome.order, hold)
    digest = sha256(outcome.SerializeToString(deterministic=True)).hexdigest()
    return _complete(provider, group, outcome.order, _derived(provider, outcome.order, digest))


def address_of_hold(provider: str, group: str, order: str, hold: str) -> Address:
    """The payment of a hold, with the group and the order in the provider's metadata, which may be empty."""
    return _complete(provider, group, order, _derived(provider, "", hold))


def _complete(provider: str, group: str, order: str, derived: str) -> Address:
    order = order if is_id(order) else derived
    return Address(group if is_id(group) else _derived(provider, order), order)


def earlier_addresses(provider: str, group: str, order: str, hold: str) -> Iterator[Address]:
    """The payments under which earlier builds recorded a hold; they are in logs that were written then.

    The foreign order was a part of the id, and the ids of holds in statements had an underscore after the provider.
    """
    yield _complete(provider, group, order, _derived(provider, order, hold))
    statement = f"{provider}_"
    yield _complete(statement, group, order, _derived(statement, order, hold))
