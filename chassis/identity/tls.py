"""Mutual TLS between services: one set of PEM files a process, to serve with and to call others with.

The files are read again while the process runs: certificates live for days, processes for months. Files that can't be
used (half of a pair was replaced, say) leave the former ones in use.

Every encrypted channel names the SPIFFE id of the server that it expects. gRPC verifies DNS names and no URIs, so a
server's certificate also has the DNS name of its identity (`server_name` of chassis/identity/peer_identity.py). With
any other certificate the handshake fails, whatever the host.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from chassis.identity import peer_identity
from chassis.identity.access_settings import SecuritySettings
from chassis.identity.peer_identity import Identity, NotAnIdentity, server_name

log = structlog.stdlib.get_logger(__name__)

#: Seconds for which files are taken to be what they were.
FRESH_S = 1.0
#: Seconds that calls under way get on a connection that was made with an older certificate.
RETIRE_S = 60.0
#: Seconds after which a connection is made anew in any case: a server's certificate is verified at the handshake only.
REDIAL_S = 3_600.0

Options = Sequence[tuple[str, Any]]


class BadCertificates(Exception):
    """Files that can't be used. The message names the file and the reason."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The contents of the files, known to fit together."""

    certificate: bytes
    key: bytes = field(repr=False)
    ca: bytes
    #: Who the certificate says that we are.
    identity: Identity = field(compare=False)
    authorities: tuple[x509.Certificate, ...] = field(compare=False)


class Files:
    """PEM files that are read again when they change."""

    def __init__(self, certificate: Path, key: Path, ca: Path) -> None:
        """Raises BadCertificates."""
        self._paths = (certificate, key, ca)
        self._stamp = self._look()
        #: Files that were refused, so that the reason is logged once.
        self._refused: tuple[object, ...] | None = None
        self._looked = time.monotonic()
        #: What is in use. Another object after each change.
        self.pair = _read(*self._paths)

    def refresh(self, *, now: bool = False) -> Pair:
        """What to use from here on; `now` looks at the files however short ago they were looked at. Any thread."""
        since = time.monotonic()
        if not now and since - self._looked < FRESH_S:
            return self.pair
        self._looked = since
        stamp = self._look()
        if stamp == self._stamp:
            return self.pair
        try:
            pair = self._renewed()
        except BadCertificates as error:
            # Read again next time: the other half of a pair may be on its way.
            if stamp != self._refused:
                self._refused = stamp
                log.warning("new certificates can't be used, the old ones are kept", error=str(error))
            return self.pair
        self._stamp = stamp
        if pair != self.pair:
            log.info("new certificates are in use", certificate=str(self._paths[0]))
            self.pair = pair
        return self.pair

    def _renewed(self) -> Pair:
        pair = _read(*self._paths)
        if pair.identity.spiffe != self.pair.identity.spiffe:
            raise BadCertificates(f"{self._paths[0]} is for {pair.identity.spiffe}: another identity needs a restart")
        return pair

    def _look(self) -> tuple[object, ...]:
        """Changes when a file does."""
        found: list[object] = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)


def files(settings: SecuritySettings) -> Files | None:
    """The files that the settings name; None where they say that all is insecure. Raises BadCertificates."""
    if settings.insecure:
        return None
    certificate, key, ca = settings.tls_certificate, settings.tls_key, settings.tls_ca
    if certificate is None or key is None or ca is None:
        raise BadCertificates("a certificate, its key and an authority are needed")
    return Files(certificate, key, ca)


def server_credentials(files: Files) -> grpc.ServerCredentials:
    """Credentials to serve with: a caller without a certificate of our authority is not let in.

    Each new connection is made with the files as they are then.
    """
    used = files.pair

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        # On a thread of gRPC's. None: as before.
        pair = files.refresh(now=True)
        if pair is used:
            return None
        used = pair
        return _served(pair)

    # The stubs know of no None.
    fetching: Any = fetch
    made: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        _served(used), fetching, require_client_authentication=True
    )
    return made


def channel(target: str, settings: SecuritySettings, expect: str, options: Options = ()) -> grpc.aio.Channel:
    """A channel to host:port, with the certificate as it is now, to the server with the SPIFFE id `expect`.

    Raises BadCertificates. For a channel that is kept for longer than a certificate lives, see Dialing.
    """
    found = files(settings)
    return _open(target, found.pair if found else None, expect, options)


class Dialing:
    """A channel to one server that is made anew once our files have changed, and every hour. On the event loop only."""

    def __init__(self, target: str, files: Files | None, expect: str, options: Options = ()) -> None:
        """`expect` is the SPIFFE id of the server. Without files nothing is encrypted, and nobody is expected."""
        self._target = target
        self._expect = expect
        self._files = files
        self._options = options
        self._pair: Pair | None = None
        self._dialled = 0.0
        self._channel: grpc.aio.Channel | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    def channel(self) -> grpc.aio.Channel:
        """The channel to use for the next call; made at the first."""
        pair = self._files.refresh() if self._files else None
        old = pair is not None and time.monotonic() - self._dialled > REDIAL_S
        if self._channel is not None and (old or pair is not self._pair):
            retiring = asyncio.get_running_loop().create_task(self._channel.close(RETIRE_S))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
            self._channel = None
        if self._channel is None:
            self._pair = pair
            self._dialled = time.monotonic()
            self._channel = _open(self._target, pair, self._expect, self._options)
        return self._channel

    async def close(self) -> None:
        """Ends the connections. Calls under way are cut off."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None


def replica_dialler(settings: SecuritySettings) -> Callable[[str, Options], Dialing]:
    """Makes channels to replicas of this process: to servers with its own identity. Raises BadCertificates."""
    found = files(settings)
    expect = found.pair.identity.spiffe if found else ""
    return lambda target, options: Dialing(target, found, expect, options)


def expecting(spiffe: str) -> tuple[tuple[str, str], ...]:
    """Channel options by which the handshake fails unless the server has an identity. Raises NotAnIdentity."""
    return (("grpc.ssl_target_name_override", server_name(spiffe)),)


def _open(target: str, pair: Pair | None, expect: str, options: Options) -> grpc.aio.Channel:
    if pair is None:
        return grpc.aio.insecure_channel(target, options=options)
    credentials = grpc.ssl_channel_credentials(pair.ca, pair.key, pair.certificate)
    return grpc.aio.secure_channel(target, credentials, options=(*options, *expecting(expect)))


def _served(pair: Pair) -> grpc.ServerCertificateConfiguration:
    made: grpc.ServerCertificateConfiguration = grpc.ssl_server_certificate_configuration(
        [(pair.key, pair.certificate)], root_certificates=pair.ca
    )
    return made


def _read(certificate: Path, key: Path, ca: Path) -> Pair:
    contents = []
    for path in (certificate, key, ca):
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            raise BadCertificates(f"{path} can't be read: {error.strerror}") from error
    chain, private_pem, bundle = contents
    try:
        identity = peer_identity.of_pem(chain)
    except NotAnIdentity as error:
        raise BadCertificates(f"{certificate} can't be our identity: {error}") from None
    try:
        authorities = peer_identity.authorities(bundle)
    except NotAnIdentity as error:
        raise BadCertificates(f"{ca}: {error}") from None
    try:
        private = load_pem_private_key(private_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's message may quote the key.
        raise BadCertificates(f"{key} is no private key in PEM") from None
    if private.public_key() != identity.certificate.public_key():
        raise BadCertificates(f"{key} is not the key of {certificate}")
    if identity.until_s <= time.time():
        until = datetime.fromtimestamp(identity.until_s, UTC)
        raise BadCertificates(f"{certificate} expired at {until:%Y-%m-%d %H:%M:%S} UTC")
    return Pair(chain, private_pem, bundle, identity, authorities)
