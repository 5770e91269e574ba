"""The client package for other services: typed, sync and async, with retries by the service config.

`Client` and `AsyncClient` have the same methods. Messages are those of `groupbuy.*.v1`.
"""

from groupbuy_client.aio import AsyncClient
from groupbuy_client.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    GroupbuyError,
    InvalidRequest,
    NotAllowed,
    NotFound,
    Overloaded,
    ServiceFailed,
    TimedOut,
    Unavailable,
)
from groupbuy_client.sync import Client
from groupbuy_client.transport import mtls

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "Client",
    "Conflict",
    "FailedPrecondition",
    "GroupbuyError",
    "InvalidRequest",
    "NotAllowed",
    "NotFound",
    "Overloaded",
    "ServiceFailed",
    "TimedOut",
    "Unavailable",
    "mtls",
]
