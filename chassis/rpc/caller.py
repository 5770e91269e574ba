"""The identity of the current task's caller, for limits that callers share. The request pipeline sets it."""

from __future__ import annotations

from contextvars import ContextVar

#: Name of the caller's identity. Empty if the call counts against no share: calls that replicas forward, and calls on a
#: developer's machine, where all callers are one identity.
IDENTITY: ContextVar[str] = ContextVar("identity", default="")


def current_identity() -> str:
    """Name of the current task's caller; empty if the call counts against no share."""
    return IDENTITY.get()
