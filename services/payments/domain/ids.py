"""Ids for what a provider speaks of and we never named: the same for every repeat. Must never depend on the time."""

from __future__ import annotations

from uuid import UUID, uuid5

#: Namespace of ids of payments that nobody of ours asked for. Changing it would make every repeat a new one.
NAMESPACE = UUID("5f0c7f0e-6f0b-5f0a-9d58-3f1f8f6f5b7d")


def is_id(text: str) -> bool:
    """Whether a text is a UUID as we write them: other spellings of the same number would be other keys."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def of_nobody(provider: str, *parts: str) -> str:
    """An id for what a provider speaks of and we never named: the same for every repeat."""
    return str(uuid5(NAMESPACE, "/".join((provider, *parts))))
