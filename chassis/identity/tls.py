"""Mutual TLS between services, from one set of PEM files a process, for its server and its channels.

The files are read again while the process runs: certificates live for days, processes for months. While the files are
invalid, for example with half of a pair replaced, the old ones stay in use.

Every encrypted channel names the SPIFFE id of its server. gRPC verifies DNS names and no URIs, so the server's
certificate also has the DNS name of its identity (`server_name` in chassis/identity/peer_identity.py). With any other
certificate the handshake fails, whatever the host.
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
from chassis.identity.file_stamp import Stamp, stamp
from chassis.identity.peer_identity import Identity, NotAnIdentity, server_name
from chassis.rpc.client_config.channel_options import DIRECT

log = structlog.stdlib.get_logger(__name__)

#: Seconds between two checks of the files for changes.
RECHECK_S = 1.0
#: Seconds in which calls in flight end on a channel with an older certificate.
DRAIN_S = 60.0
#: Seconds after which a channel is replaced in any case: the server's certificate is verified in the handshake only.
MAX_AGE_S = 3_600.0

Options = Sequence[tuple[str, Any]]


class BadCertificates(Exception):
    """The files are invalid. The message has the file and the reason."""


@dataclass(frozen=True, slots=True)
class CertificateSet:
    """The contents of the files, checked to fit together."""

    certificate: bytes
    key: bytes = field(repr=False)
    ca: bytes
    #: This process's identity.
    identity: Identity = field(compare=False)
    authorities: tuple[x509.Certificate, ...] = field(compare=False)


class CertificateFiles:
    """The PEM files, read again when they change."""

    def __init__(self, certificate: Path, key: Path, ca: Path) -> None:
        """Raises BadCertificates."""
        self._paths = (certificate, key, ca)
        self._used_stamps = self._stamps()
        #: The stamps of invalid files, so that the reason is logged once.
        self._refused: tuple[Stamp, ...] | None = None
        self._checked_s = time.monotonic()
        #: The contents in use: a new object after each change.
        self.pair = _read(*self._paths)

    def refresh(self, *, now: bool = False) -> CertificateSet:
        """Returns the current contents. `now` checks the files even within RECHECK_S. Called on any thread."""
        since = time.monotonic()
        if not now and since - self._checked_s < RECHECK_S:
            return self.pair
        self._checked_s = since
        stamps = self._stamps()
        if stamps == self._used_stamps:
            return self.pair
        try:
            pair = self._renewed()
        except BadCertificates as error:
            # The stamps are not stored: the files are read again, as the other half of a pair may follow.
            if stamps != self._refused:
                self._refused = stamps
                log.warning("the new certificates can't be used; the old ones stay in use", error=str(error))
            return self.pair
        self._used_stamps = stamps
        if pair != self.pair:
            log.info("new certificates are in use", certificate=str(self._paths[0]))
            self.pair = pair
        return self.pair

    def _renewed(self) -> CertificateSet:
        pair = _read(*self._paths)
        if pair.identity.spiffe != self.pair.identity.spiffe:
            raise BadCertificates(f"{self._paths[0]} is for {pair.identity.spiffe}: another identity needs a restart")
        return pair

    def _stamps(self) -> tuple[Stamp, ...]:
        return tuple(stamp(path) for path in self._paths)


def certificate_files(settings: SecuritySettings) -> CertificateFiles | None:
    """The files named by the settings; None with `insecure`. Raises BadCertificates."""
    if settings.insecure:
        return None
    certificate, key, ca = settings.tls_certificate, settings.tls_key, settings.tls_ca
    if certificate is None or key is None or ca is None:
        raise BadCertificates("a certificate, its key and an authority are needed")
    return CertificateFiles(certificate, key, ca)


def server_credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """Server credentials that require a client certificate of a trusted authority.

    Each new connection uses the current files.
    """
    used = files.pair

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        # Runs on a thread of gRPC's. None means no change.
        pair = files.refresh(now=True)
        if pair is used:
            return None
        used = pair
        return _served(pair)

    # The stubs do not allow None.
    fetching: Any = fetch
    made: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        _served(used), fetching, require_client_authentication=True
    )
    return made


def open_channel(target: str, settings: SecuritySettings, expect: str, options: Options = ()) -> grpc.aio.Channel:
    """Opens a channel to host:port with the current certificate, to the server with the SPIFFE id `expect`.

    Raises BadCertificates. For a channel that outlives a certificate use RotatingChannel.
    """
    found = certificate_files(settings)
    return _open(target, found.pair if found else None, expect, options)


class RotatingChannel:
    """A channel to one server that is replaced when our files change, and every hour. Used on the event loop only."""

    def __init__(self, target: str, files: CertificateFiles | None, expect: str, options: Options = ()) -> None:
        """`expect` is the SPIFFE id of the server. Without files nothing is encrypted or verified."""
        self._target = target
        self._expect = expect
        self._files = files
        self._options = options
        self._pair: CertificateSet | None = None
        self._opened_s = 0.0
        self._channel: grpc.aio.Channel | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    def channel(self) -> grpc.aio.Channel:
        """The channel for the next call; opened on first use."""
        pair = self._files.refresh() if self._files else None
        old = pair is not None and time.monotonic() - self._opened_s > MAX_AGE_S
        if self._channel is not None and (old or pair is not self._pair):
            retiring = asyncio.get_running_loop().create_task(self._channel.close(DRAIN_S))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
            self._channel = None
        if self._channel is None:
            self._pair = pair
            self._opened_s = time.monotonic()
            self._channel = _open(self._target, pair, self._expect, self._options)
        return self._channel

    async def close(self) -> None:
        """Closes the connections and cancels calls in flight."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None


def replica_channels(settings: SecuritySettings) -> Callable[[str, Options], RotatingChannel]:
    """Returns a function that opens channels to servers with this process's own identity. Raises BadCertificates."""
    found = certificate_files(settings)
    expect = found.pair.identity.spiffe if found else ""
    return lambda target, options: RotatingChannel(target, found, expect, options)


def expecting(spiffe: str) -> tuple[tuple[str, str], ...]:
    """Channel options that fail the handshake unless the server has the identity. Raises NotAnIdentity."""
    return (("grpc.ssl_target_name_override", server_name(spiffe)),)


def _open(target: str, pair: CertificateSet | None, expect: str, options: Options) -> grpc.aio.Channel:
    # gRPC takes the first value of an option.
    options = (*options, *DIRECT)
    if pair is None:
        return grpc.aio.insecure_channel(target, options=options)
    credentials = grpc.ssl_channel_credentials(pair.ca, pair.key, pair.certificate)
    return grpc.aio.secure_channel(target, credentials, options=(*options, *expecting(expect)))


def _served(pair: CertificateSet) -> grpc.ServerCertificateConfiguration:
    made: grpc.ServerCertificateConfiguration = grpc.ssl_server_certificate_configuration(
        [(pair.key, pair.certificate)], root_certificates=pair.ca
    )
    return made


def _read(certificate: Path, key: Path, ca: Path) -> CertificateSet:
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
        raise BadCertificates(f"{certificate} has no valid identity: {error}") from None
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
    return CertificateSet(chain, private_pem, bundle, identity, authorities)
