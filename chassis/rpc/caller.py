"""Who makes the call that a task handles, for what is shared out among callers. The guard sets it, once a call."""

from __future__ import annotations

from contextvars import ContextVar

#: Name of the caller's identity. Empty: not counted, as the calls that replicas forward and those of a developer's
#: machine, where everybody is one identity.
IDENTITY: ContextVar[str] = ContextVar("identity", default="")


def identity() -> str:
    """Name of the identity that makes the call of this task; empty: it is not counted."""
    return IDENTITY.get()
