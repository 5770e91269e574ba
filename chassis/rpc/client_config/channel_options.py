"""gRPC channel options, the same for every channel of ours: between replicas, of tools, tests and benchmarks.

`groupbuy_client` has its own copy, as it does not import the chassis; tests/unit/client/test_generated.py compares
both.
"""

from __future__ import annotations

from typing import Final

Options = tuple[tuple[str, str | int], ...]

#: Milliseconds before the first attempt to reconnect, and between two attempts at most. By default gRPC waits for a
#: second and more, and a restarted server would look unavailable for as long.
FIRST_BACKOFF_MS: Final = 100
MAX_BACKOFF_MS: Final = 500
#: Milliseconds of one attempt to connect, several round trips with TLS; gRPC calls it the minimum back-off.
CONNECT_MS: Final = 2_000
#: Detects a server that vanished. Servers of ours permit a ping every 10 s.
KEEPALIVE: Final[Options] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
#: Every server of ours is reached directly. By default gRPC sends even loopback addresses through `http_proxy`.
DIRECT: Final[Options] = (("grpc.enable_http_proxy", 0),)


def options(*, max_backoff_ms: int = MAX_BACKOFF_MS, retries: bool = True, own_connection: bool = False) -> Options:
    """The options of a channel.

    `retries`: False for a caller that retries by itself or reports each error. `own_connection`: True for a channel
    that shares no connection with other channels of the process, such as a probe's.
    """
    backoff_ms = min(FIRST_BACKOFF_MS, max_backoff_ms)
    made: Options = (
        ("grpc.initial_reconnect_backoff_ms", backoff_ms),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", max_backoff_ms),
        *KEEPALIVE,
        *DIRECT,
    )
    if not retries:
        made = (*made, ("grpc.enable_retries", 0))
    if own_connection:
        made = (*made, ("grpc.use_local_subchannel_pool", 1))
    return made
