"""Who calls, and whether they may: the identity in the caller's certificate, held against the table of chassis.policy.

gRPC has verified the certificate against our authorities before anything here runs. An identity is the SPIFFE id of a
certificate that has exactly one (X.509-SVID); a common name or a host name is none. A call that says that a replica has
passed it on is taken from our own identity alone: the replica has held its caller against the same table. Where all is
insecure every caller is `local`, who may call everything: for one machine alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from typing import Any, TypeAlias

import grpc
import structlog
from groupbuy.errors.v1 import errors_pb2

from chassis.auth_settings import SecuritySettings
from chassis.errors import ApiError
from chassis.policy import FILE, Policy, read
from chassis.ratelimit import Bucket
from chassis.replicas_calls import passed_on

log = structlog.stdlib.get_logger(__name__)

#: Who everybody is where all is insecure.
LOCAL = "local"
#: Different refusals that are logged: one line for each pair of caller and method, and an end to what can be filled.
MOST_LOGGED = 1_000

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Caller:
    """Who makes a call, and how often they still may."""

    __slots__ = ("_bucket", "name")

    def __init__(self, name: str, bucket: Bucket | None) -> None:
        self.name = name
        self._bucket = bucket

    def count(self) -> None:
        """Counts a call. Raises ApiError RATE_LIMITED."""
        wait_s = self._bucket.take() if self._bucket else 0.0
        if wait_s:
            raise ApiError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                errors_pb2.ERROR_REASON_RATE_LIMITED,
                f"{self.name} calls more often than it may; call again later",
                metadata={"identity": self.name},
                retry_after_ms=max(int(wait_s * 1000) + 1, 1),
            )

    async def pace(self) -> None:
        """Counts one more message of a stream, and returns once it may be taken."""
        wait_s = self._bucket.owe() if self._bucket else 0.0
        if wait_s:
            await asyncio.sleep(wait_s)


#: Says who makes a call of one method. Raises ApiError where they may not.
Admit: TypeAlias = Callable[[Context], Caller]

_EVERYBODY = Caller(LOCAL, None)


class Access:
    """Lets callers in, method by method."""

    def __init__(self, policy: Policy | None, *, own: str = "", everybody: bool = False) -> None:
        """`own`: the SPIFFE id of this process, and so of its replicas. `everybody`: callers are not asked who they
        are. Without a policy nothing is checked at the start either."""
        self._policy = policy
        self._own = own
        self.open = everybody or policy is None
        self._callers: dict[str, Caller] = {}
        self._logged: set[tuple[str, str]] = set()

    def check(self, served: Set[str]) -> None:
        """Raises PolicyError unless the table has exactly what is served, `/package.Service/Method`."""
        if self._policy is not None:
            self._policy.check(served)

    def of(self, method: str) -> Admit:
        """What every call of a method, `/package.Service/Method`, must pass."""
        policy = self._policy
        if self.open or policy is None:
            return _everybody
        allowed = policy.allowed.get(method, frozenset())

        def admit(context: Context) -> Caller:
            spiffe = identity(context)
            name = policy.names.get(spiffe, "")
            if name not in allowed:
                self._log(spiffe, method)
                raise _refused(spiffe, name, method)
            if spiffe != self._own and passed_on(context):
                self._log(spiffe, method)
                raise _no_replica(spiffe, name, method)
            caller = self._callers.get(name)
            if caller is None:
                caller = self._callers[name] = Caller(name, Bucket(policy.limit(name)))
            caller.count()
            return caller

        return admit

    def _log(self, spiffe: str, method: str) -> None:
        if (spiffe, method) not in self._logged and len(self._logged) < MOST_LOGGED:
            self._logged.add((spiffe, method))
            log.warning("a call was refused to who made it; said once", identity=spiffe or "none", method=method)


def access(settings: SecuritySettings, service: str, own: str) -> Access:
    """What the settings ask for; `own` is the SPIFFE id of this process. Raises PolicyError."""
    return Access(read(settings.policy or FILE, service), own=own, everybody=settings.insecure)


def identity(context: Context) -> str:
    """The SPIFFE id of a caller's certificate; empty where there is none, or not exactly one."""
    found: Any = context.auth_context().get("peer_spiffe_id")
    return found[0].decode(errors="replace") if found and len(found) == 1 else ""


def _everybody(_context: Context) -> Caller:
    return _EVERYBODY


def _refused(spiffe: str, name: str, method: str) -> ApiError:
    if not spiffe:
        return ApiError(
            grpc.StatusCode.UNAUTHENTICATED,
            errors_pb2.ERROR_REASON_IDENTITY_REQUIRED,
            "the certificate has no SPIFFE id, or more than one",
        )
    return ApiError(
        grpc.StatusCode.PERMISSION_DENIED,
        errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED,
        f"{name or 'an identity that is not in the table'} may not call {method}",
        metadata={"identity": spiffe, "method": method},
    )


def _no_replica(spiffe: str, name: str, method: str) -> ApiError:
    return ApiError(
        grpc.StatusCode.PERMISSION_DENIED,
        errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED,
        f"{name} is no replica of this service and passes no calls on",
        metadata={"identity": spiffe, "method": method},
    )
