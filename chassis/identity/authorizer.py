"""Authentication and authorisation of calls: the identity in the caller's certificate, and the table of
chassis.identity.policy.

TLS has verified the certificate before anything here runs; chassis/identity/peer_identity.py reads it, once for each
certificate. The dates of the certificate, the bundle of authorities and the table may change while a connection lasts:
they are checked at each call, and every second for calls in flight. The forwarding header is honoured only from peers
with this service's own SPIFFE id, and such a peer may do nothing but forward. Where all is insecure every caller is
`local`, who may call everything: for one machine alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import structlog
from cryptography import x509
from groupbuy.errors.v1 import errors_pb2

from chassis.admission.rate_limit import Bucket
from chassis.identity import peer_identity
from chassis.identity.access_settings import SecuritySettings
from chassis.identity.peer_identity import Identity, NotAnIdentity, server_name
from chassis.identity.policy import FILE, Policy, PolicyError, read
from chassis.identity.tls import BadCertificates, Files
from chassis.routing.peer_calls import forwarded, passed_on
from chassis.rpc.errors import ApiError

log = structlog.stdlib.get_logger(__name__)

#: Who everybody is where all is insecure.
LOCAL = "local"
#: Different refusals that are logged: one line for each pair of caller and method, and an end to what can be filled.
MAX_LOGGED = 1_000
#: Stands for all methods that are not served.
OTHERS = "a method that is not served"
#: Certificates whose identity is remembered. One more is read again at each call.
MAX_CERTIFICATES = 10_000

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Caller:
    """Who makes a call, and how often they still may. One object for each certificate."""

    __slots__ = ("_bucket", "issued", "name", "peer", "seen", "shares")

    def __init__(self, name: str, bucket: Bucket | None, peer: Identity | None = None) -> None:
        self.name = name
        self._bucket = bucket
        #: Whose share of places a call takes; empty: nobody's, as with calls that a replica forwards.
        self.shares = name if peer is not None and "/service/" not in peer.spiffe else ""
        #: Who the certificate says it is; None where nobody is asked, or it says nothing valid.
        self.peer = peer
        #: Whether the authority of the certificate was trusted, and of which bundle that was found.
        self.issued = True
        self.seen = -1

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

EVERYBODY = Caller(LOCAL, None)


class Access:
    """Lets callers in, method by method. On the event loop only."""

    def __init__(
        self,
        policy: Policy | None,
        *,
        own: str = "",
        everybody: bool = False,
        files: Files | None = None,
        source: PolicySource | None = None,
    ) -> None:
        """`own`: the SPIFFE id of this process, and so of its replicas. `everybody`: callers are not asked who they
        are. `files` has the bundle of authorities, `source` the newest table; `refresh` looks at both. Without a policy
        nothing is checked at the start either."""
        self._policy = policy
        self._own = own
        self.open = everybody or policy is None
        self._files = files
        self._source = source
        self._served: Set[str] = frozenset()
        self._trusted = files.pair.authorities if files else ()
        #: Counts the changes of the bundle.
        self._bundle = 0
        self._withdrawn: tuple[x509.Certificate, ...] = ()
        self._buckets: dict[str, Bucket] = {}
        self._callers: OrderedDict[bytes, Caller] = OrderedDict()
        self._logged: set[tuple[str, str]] = set()

    def check(self, served: Set[str]) -> None:
        """Raises PolicyError unless the table has exactly what is served, `/package.Service/Method`."""
        self._served = frozenset(served)
        if self._policy is not None:
            self._policy.check(served)

    def of(self, method: str) -> Admit:
        """The check that every call of a method, `/package.Service/Method`, passes."""
        if self.open:
            return _everybody

        def admit(context: Context) -> Caller:
            caller = self._caller(context)
            # A refusal costs a third of an answer: it counts as much.
            caller.count()
            refused = self.refusal(method, caller) or self._mark_refusal(method, caller, context)
            if refused is not None:
                self._log(caller, method)
                raise refused
            return caller

        return admit

    def of_others(self) -> Admit:
        """The check of calls of methods that are not served: their callers have to be in the table, and are counted."""
        if self.open:
            return _everybody

        def admit(context: Context) -> Caller:
            caller = self._caller(context)
            caller.count()
            refused = self._stranger(caller, OTHERS)
            if refused is not None:
                self._log(caller, OTHERS)
                raise refused
            return caller

        return admit

    def _stranger(self, caller: Caller, method: str) -> ApiError | None:
        """Why a certificate opens nothing at all; None: it may open something."""
        policy, peer = self._policy, caller.peer
        if policy is None:
            return None
        if peer is None:
            return _unknown("the certificate is no X.509-SVID with exactly one SPIFFE id")
        if not peer.valid(time.time()):
            return _unknown("the certificate has expired, or is not valid yet")
        if caller.seen != self._bundle:
            caller.seen, caller.issued = self._bundle, self._issued(peer)
        if not caller.issued:
            return _unknown("the authority of the certificate is not trusted any more")
        if peer.spiffe not in policy.names:
            return _refused(peer.spiffe, "an identity that is not in the table may not call", method)
        return None

    def refusal(self, method: str, caller: Caller) -> ApiError | None:
        """Why a caller may not call a method now, nor go on with a call of it; None: it may."""
        policy, peer = self._policy, caller.peer
        if self.open or policy is None:
            return None
        stranger = self._stranger(caller, method)
        if stranger is not None or peer is None:
            return stranger
        name = policy.names[peer.spiffe]
        if name in policy.allowed.get(method, ()) or (peer.spiffe == self._own and method in policy.forwarded):
            return None
        return _refused(peer.spiffe, f"{name} may not call", method)

    def refresh(self) -> bool:
        """Takes a changed table and changed authorities into use; whether there were any. A table that can't be used
        is logged, and the former one stays."""
        if self.open or self._policy is None:
            return False
        changed = self._refresh_authorities()
        policy = self._source.newer(self._served) if self._source else None
        if policy is None:
            return changed
        if policy.names.get(self._own) != self._policy.names.get(self._own):
            log.error("the new table gives our identity another name, the old one is kept", identity=self._own)
            return changed
        for name in list(self._buckets):
            if policy.limit(name) != self._policy.limit(name):
                del self._buckets[name]
        self._policy = policy
        self._callers.clear()
        log.info("a new table of who may call what is in use")
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
        """An authority that we never had signed through an intermediate one: TLS has verified it, and the certificate
        of the intermediate authority isn't available here. Such a connection ends with its age."""
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
            log.warning("a caller's certificate was refused", why=str(error))
            peer = None
        return self._remember(pem, peer)

    def _remember(self, pem: bytes, peer: Identity | None) -> Caller:
        assert self._policy is not None
        name = self._policy.names.get(peer.spiffe, "") if peer else ""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(self._policy.limit(name))
        caller = self._callers[pem] = Caller(name, bucket, peer)
        while len(self._callers) > MAX_CERTIFICATES:
            self._callers.popitem(last=False)
        return caller

    def _mark_refusal(self, method: str, caller: Caller, context: Context) -> ApiError | None:
        """A replica of this service forwards calls, and does nothing else; nobody else forwards any."""
        policy, peer = self._policy, caller.peer
        assert policy is not None
        assert peer is not None
        own, marked = peer.spiffe == self._own, passed_on(context)
        if marked and not (own and method in policy.forwarded and forwarded(context)):
            return _refused(peer.spiffe, f"{caller.name} is no replica that forwards calls of", method)
        if own and not marked and caller.name not in policy.allowed.get(method, ()):
            return _refused(peer.spiffe, f"{caller.name} may forward but not make calls of", method)
        return None

    def _log(self, caller: Caller, method: str) -> None:
        spiffe = caller.peer.spiffe if caller.peer else ""
        if (spiffe, method) not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add((spiffe, method))
            log.warning("a call was refused to who made it; said once", identity=spiffe or "none", method=method)


class PolicySource:
    """The file of the table, read again when it changes."""

    def __init__(self, path: Path, service: str) -> None:
        self._path = path
        self._service = service
        self._stamp = self._look()

    def read(self) -> Policy:
        """The table. Raises PolicyError."""
        return read(self._path, self._service)

    def newer(self, served: Set[str]) -> Policy | None:
        """The table where the file has changed and fits what is served; else None."""
        stamp = self._look()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            policy = self.read()
            policy.check(served)
        except PolicyError as error:
            log.error("the new table of who may call what can't be used, the old one is kept", error=str(error))
            return None
        return policy

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def access(settings: SecuritySettings, service: str, files: Files | None) -> Access:
    """What the settings ask for; `files` are the certificates of this process.

    Raises PolicyError, and BadCertificates where the certificate is another identity's than the service's.
    """
    source = PolicySource(settings.policy or FILE, service)
    policy = source.read()
    own = files.pair.identity.spiffe if files else ""
    if own and policy.names.get(own) != service:
        raise BadCertificates(f"the certificate is {own}'s, which the table does not name {service}")
    if files and not files.pair.identity.serves:
        raise BadCertificates(f"the certificate has no DNS name {server_name(own)}, which callers of {own} expect")
    return Access(policy, own=own, everybody=settings.insecure, files=files, source=source)


def _everybody(_context: Context) -> Caller:
    return EVERYBODY


def _unknown(why: str) -> ApiError:
    return ApiError(grpc.StatusCode.UNAUTHENTICATED, errors_pb2.ERROR_REASON_IDENTITY_REQUIRED, why)


def _refused(spiffe: str, why: str, method: str) -> ApiError:
    return ApiError(
        grpc.StatusCode.PERMISSION_DENIED,
        errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED,
        f"{why} {method}",
        metadata={"identity": spiffe, "method": method},
    )
