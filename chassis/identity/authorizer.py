"""Authentication and authorisation of calls, by the identity in the caller's certificate and the policy.

TLS verifies the certificate before any code here runs; chassis/identity/peer_identity.py parses it once. The
certificate's dates, the bundle of authorities and the policy may change while a connection lasts, so they are checked
at each call, and every second for calls in flight. The forwarding header is honoured only from peers with this
service's own SPIFFE id, and such a peer may only forward. Without encryption every caller is `local` and may call every
method: for one machine only.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Set
from typing import Any, TypeAlias

import grpc
import structlog
from cryptography import x509
from groupbuy.errors.v1 import errors_pb2

from chassis.admission.rate_limit import TokenBucket
from chassis.identity import peer_identity
from chassis.identity.access_settings import SecuritySettings
from chassis.identity.peer_identity import Identity, NotAnIdentity, server_name
from chassis.identity.policy import FILE, Policy, PolicySource
from chassis.identity.tls import BadCertificates, CertificateFiles
from chassis.routing.peer_calls import forwarded, has_peer_metadata
from chassis.rpc.errors import ApiError

log = structlog.stdlib.get_logger(__name__)

#: The identity of every caller without encryption.
LOCAL = "local"
#: Refusals that are logged: one line a pair of caller and method, and so many pairs, as a peer can cause them at will.
MAX_LOGGED = 1_000
#: Stands for every method that is not served.
UNSERVED = "a method that is not served"
#: Parsed certificates in the cache; the least recently added is evicted.
MAX_CERTIFICATES = 10_000

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Caller:
    """The caller of a call, with its rate limit. One object a certificate."""

    __slots__ = ("_bucket", "checked_bundle", "issued", "name", "peer", "shares")

    def __init__(self, name: str, bucket: TokenBucket | None, peer: Identity | None = None) -> None:
        self.name = name
        self._bucket = bucket
        #: The identity whose share the call counts against; empty for calls that a replica forwards.
        self.shares = name if peer is not None and "/service/" not in peer.spiffe else ""
        #: The identity in the certificate; None without encryption or without a valid identity.
        self.peer = peer
        #: Whether the certificate's authority is trusted, and the number of the bundle that was checked.
        self.issued = True
        self.checked_bundle = -1

    def count(self) -> None:
        """Counts a call. Raises ApiError RATE_LIMITED above the caller's rate."""
        wait_s = self._bucket.take() if self._bucket else 0.0
        if wait_s:
            raise ApiError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                errors_pb2.ERROR_REASON_RATE_LIMITED,
                f"{self.name} exceeds its rate limit; retry later",
                metadata={"identity": self.name},
                retry_after_ms=max(int(wait_s * 1000) + 1, 1),
            )

    async def throttle(self) -> None:
        """Counts a message of a stream, and returns once the caller's rate allows it."""
        wait_s = self._bucket.overdraw() if self._bucket else 0.0
        if wait_s:
            await asyncio.sleep(wait_s)


#: Identifies the caller of one method. Raises ApiError if the call is not allowed.
IdentifyCaller: TypeAlias = Callable[[Context], Caller]

LOCAL_CALLER = Caller(LOCAL, None)


class Authorizer:
    """Authorises calls by method. Used on the event loop only."""

    def __init__(
        self,
        policy: Policy | None,
        *,
        own: str = "",
        everybody: bool = False,
        files: CertificateFiles | None = None,
        source: PolicySource | None = None,
    ) -> None:
        """`own` is the SPIFFE id of this process and its replicas. `everybody` turns authorisation off. `refresh` reads
        the bundle of authorities from `files` and the policy from `source`. Without a policy `check` passes too."""
        self._policy = policy
        self._own = own
        self.open = everybody or policy is None
        self._files = files
        self._source = source
        self._served: Set[str] = frozenset()
        self._trusted = files.pair.authorities if files else ()
        #: Number of the bundle: its changes so far.
        self._bundle = 0
        self._withdrawn: tuple[x509.Certificate, ...] = ()
        self._buckets: dict[str, TokenBucket] = {}
        self._callers: OrderedDict[bytes, Caller] = OrderedDict()
        self._logged: set[tuple[str, str]] = set()

    def check(self, served: Set[str]) -> None:
        """Raises PolicyError unless the policy has exactly the methods served, `/package.Service/Method`."""
        self._served = frozenset(served)
        if self._policy is not None:
            self._policy.check(served)

    def of(self, method: str) -> IdentifyCaller:
        """The check of every call of a method, `/package.Service/Method`."""
        if self.open:
            return _local_caller

        def admit(context: Context) -> Caller:
            caller = self._caller(context)
            # A refused call counts too: it costs a third of an answered one.
            caller.count()
            refused = self.refusal(method, caller) or self._forwarding_refusal(method, caller, context)
            if refused is not None:
                self._log(caller, method)
                raise refused
            return caller

        return admit

    def of_unserved(self) -> IdentifyCaller:
        """The check of calls of methods that are not served: the caller must be in the policy, and is counted."""
        if self.open:
            return _local_caller

        def admit(context: Context) -> Caller:
            caller = self._caller(context)
            caller.count()
            refused = self._identity_refusal(caller, UNSERVED)
            if refused is not None:
                self._log(caller, UNSERVED)
                raise refused
            return caller

        return admit

    def _identity_refusal(self, caller: Caller, method: str) -> ApiError | None:
        """The error of a certificate that gives access to no method; None for any other."""
        policy, peer = self._policy, caller.peer
        if policy is None:
            return None
        if peer is None:
            return _unauthenticated("the certificate is no X.509-SVID with exactly one SPIFFE id")
        if not peer.valid(time.time()):
            return _unauthenticated("the certificate has expired, or is not valid yet")
        if caller.checked_bundle != self._bundle:
            caller.checked_bundle, caller.issued = self._bundle, self._issued(peer)
        if not caller.issued:
            return _unauthenticated("the authority of the certificate is no longer trusted")
        if peer.spiffe not in policy.names:
            return _denied(peer.spiffe, "an identity that is not in the policy may not call", method)
        return None

    def refusal(self, method: str, caller: Caller) -> ApiError | None:
        """The error of a caller that may not call a method now; None if it may. Also for calls in flight."""
        policy, peer = self._policy, caller.peer
        if self.open or policy is None:
            return None
        refused = self._identity_refusal(caller, method)
        if refused is not None or peer is None:
            return refused
        name = policy.names[peer.spiffe]
        if name in policy.allowed.get(method, ()) or (peer.spiffe == self._own and method in policy.forwarded):
            return None
        return _denied(peer.spiffe, f"{name} may not call", method)

    def refresh(self) -> bool:
        """Loads a changed policy and changed authorities; returns whether anything changed.

        An invalid policy is logged, and the old one stays in use.
        """
        if self.open or self._policy is None:
            return False
        changed = self._refresh_authorities()
        policy = self._source.newer(self._served) if self._source else None
        if policy is None:
            return changed
        if policy.names.get(self._own) != self._policy.names.get(self._own):
            log.error("the new policy names our identity differently; the old one stays in use", identity=self._own)
            return changed
        for name in list(self._buckets):
            if policy.limit(name) != self._policy.limit(name):
                del self._buckets[name]
        self._policy = policy
        self._callers.clear()
        log.info("a new policy is in use")
        return True

    def _refresh_authorities(self) -> bool:
        trusted = self._files.refresh().authorities if self._files else ()
        if trusted == self._trusted:
            return False
        known = {*self._withdrawn, *self._trusted}
        self._withdrawn = tuple(one for one in known if one not in trusted)
        self._trusted = trusted
        self._bundle += 1
        return True

    def _issued(self, peer: Identity) -> bool:
        """Whether the certificate's authority is trusted.

        For an authority that was never in the bundle, the certificate came through an intermediate one. TLS verified
        it, and the intermediate's certificate is not available here: such a connection ends with its age.
        """
        if not self._withdrawn or peer_identity.issued_by(peer.certificate, self._trusted):
            return True
        return not peer_identity.issued_by(peer.certificate, self._withdrawn)

    def _caller(self, context: Context) -> Caller:
        found: Any = context.auth_context().get("x509_pem_cert")
        pem: bytes = found[0] if found and len(found) == 1 else b""
        caller = self._callers.get(pem)
        if caller is not None:
            return caller
        try:
            peer = peer_identity.of_pem(pem) if pem else None
        except NotAnIdentity as error:
            log.warning("a caller's certificate has no valid identity", reason=str(error))
            peer = None
        return self._remember(pem, peer)

    def _remember(self, pem: bytes, peer: Identity | None) -> Caller:
        assert self._policy is not None
        name = self._policy.names.get(peer.spiffe, "") if peer else ""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(self._policy.limit(name))
        caller = self._callers[pem] = Caller(name, bucket, peer)
        while len(self._callers) > MAX_CERTIFICATES:
            self._callers.popitem(last=False)
        return caller

    def _forwarding_refusal(self, method: str, caller: Caller, context: Context) -> ApiError | None:
        """The error of a replica of this service that does more than forward, or of another caller that forwards."""
        policy, peer = self._policy, caller.peer
        assert policy is not None
        assert peer is not None
        own, marked = peer.spiffe == self._own, has_peer_metadata(context)
        if marked and not (own and method in policy.forwarded and forwarded(context)):
            return _denied(peer.spiffe, f"{caller.name} may not forward calls of", method)
        if own and not marked and caller.name not in policy.allowed.get(method, ()):
            return _denied(peer.spiffe, f"{caller.name} may forward but not make calls of", method)
        return None

    def _log(self, caller: Caller, method: str) -> None:
        spiffe = caller.peer.spiffe if caller.peer else ""
        if (spiffe, method) not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add((spiffe, method))
            log.warning("a call was denied; logged once a caller and method", identity=spiffe or "none", method=method)


def create_authorizer(settings: SecuritySettings, service: str, files: CertificateFiles | None) -> Authorizer:
    """The authorizer for the settings; `files` are the certificates of this process.

    Raises PolicyError, and BadCertificates if the certificate does not have the service's identity.
    """
    source = PolicySource(settings.policy or FILE, service)
    policy = source.read()
    own = files.pair.identity.spiffe if files else ""
    if own and policy.names.get(own) != service:
        raise BadCertificates(f"the certificate is for {own}, which the policy does not name {service}")
    if files and not files.pair.identity.serves:
        raise BadCertificates(f"the certificate lacks the DNS name {server_name(own)}, which callers of {own} expect")
    return Authorizer(policy, own=own, everybody=settings.insecure, files=files, source=source)


def _local_caller(_context: Context) -> Caller:
    return LOCAL_CALLER


def _unauthenticated(reason: str) -> ApiError:
    return ApiError(grpc.StatusCode.UNAUTHENTICATED, errors_pb2.ERROR_REASON_IDENTITY_REQUIRED, reason)


def _denied(spiffe: str, reason: str, method: str) -> ApiError:
    return ApiError(
        grpc.StatusCode.PERMISSION_DENIED,
        errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED,
        f"{reason} {method}",
        metadata={"identity": spiffe, "method": method},
    )
