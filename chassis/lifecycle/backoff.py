"""The back-off of a start-up step that is retried until it succeeds."""

from __future__ import annotations

from collections.abc import AsyncIterable

import stamina
import stamina.instrumentation

#: Bounds in seconds of the pause before a retry, and its random part.
FIRST_WAIT_S = 0.3
MAX_WAIT_S = 2.0
JITTER_S = 0.3

# The callers log each retry themselves.
stamina.instrumentation.set_on_retry_hooks([])


def retries_until_success(*on: type[Exception]) -> AsyncIterable[stamina.Attempt]:
    """Attempts for `async for attempt in …: with attempt: …`, which repeat the block while it raises one of `on`."""
    return stamina.retry_context(
        on=on, attempts=None, timeout=None, wait_initial=FIRST_WAIT_S, wait_max=MAX_WAIT_S, wait_jitter=JITTER_S
    )
