"""Results of a call to somebody else's API, and the errors that stand for those without an answer.

| result | an adapter |
|-|-|
| done | returns the answer |
| refused | returns an answer that reports it, if the other side has reported that it did nothing |
| unknown | raises ResultUnknown |
| not made | raises NotPossibleNow, or NotYet while the other side works on it |
| failed for good | raises ReplayedFailure; resolve.py raises NotDone once a look-up has found no effect |

The adapter looks a call up by its idempotency key after KeyReused and AlreadyDone: see resolve.py.
"""

from __future__ import annotations


class CallError(Exception):
    """Base of the errors of a call."""

    def __init__(self, message: str, *, after_ms: int = 0) -> None:
        """`after_ms`: the delay in milliseconds that the other side requested; 0 if none."""
        super().__init__(message)
        self.after_ms = after_ms


class ResultUnknown(CallError):
    """The call may or may not have taken effect. Look up its key or send the same call again."""


class ReplayedFailure(ResultUnknown):
    """The other side repeated its stored answer to this key: a failure. The same key will not get another answer.

    The request itself has ended, so a look-up that finds nothing proves that it had no effect.
    """


class NotDone(CallError):
    """The other side failed on this key without an effect. Send the call again under another key."""


class KeyReused(CallError):
    """The key was used with another payload. Look up the effect that it had then."""


class AlreadyDone(CallError):
    """The other side reports that this call was made before. Look it up."""


class NotPossibleNow(CallError):
    """The call had no effect and can't succeed within seconds (bad credentials, …). Retry later."""


class NotYet(NotPossibleNow):
    """The other side is healthy but has no final answer yet. Retry later."""
