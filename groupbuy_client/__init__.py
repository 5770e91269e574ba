"""Typed client of the services, synchronous and asynchronous, with deadlines and safe retries.

`Client` and `AsyncClient` have the same methods. They take and return the messages of `groupbuy.*.v1`.
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
