"""RSA keys in PEM files with their serial numbers, read again when the files change.

Keys rotate without a restart: a directory has one file for each key, named by its serial number, and may hold the old
and the new one side by side. A file with unusable contents changes nothing; the reason is logged once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chassis.identity.file_stamp import Stamp, stamp
from services.payments.providers.credentials import RECHECK_S, BadCredential

log = structlog.stdlib.get_logger(__name__)

K = TypeVar("K")
#: Serial number and key, those for use first.
Pairs: TypeAlias = "tuple[tuple[str, K], ...]"

SUFFIX = ".pem"
#: WeChat Pay accepts keys from 2048 bits.
MIN_BITS = 2_048
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_SERIAL = re.compile(r"[0-9A-Za-z_]{1,64}", re.ASCII)


def load_private_key(content: bytes, serial: str) -> rsa.RSAPrivateKey:
    """The merchant's private key. Raises BadCredential."""
    if _CERTIFICATE in content:
        raise BadCredential("is a certificate, not the private key (apiclient_key.pem)")
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadCredential("is no private key in PEM form without a password") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < MIN_BITS:
        raise BadCredential(f"is no RSA key of {MIN_BITS} bits or more")
    return key


def load_platform_key(content: bytes, serial: str) -> rsa.RSAPublicKey:
    """WeChat Pay's public key, or the key in its platform certificate. Raises BadCredential."""
    if b"PRIVATE KEY-----" in content:
        raise BadCredential("is a private key, not WeChat Pay's public key or certificate")
    key: object
    try:
        if _CERTIFICATE in content:
            certificate = x509.load_pem_x509_certificate(content)
            known, key = f"{certificate.serial_number:X}", certificate.public_key()
        else:
            known, key = serial, serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise BadCredential("is no public key or certificate in PEM form") from None
    if known.upper().lstrip("0") != serial.upper().lstrip("0"):
        raise BadCredential(f"is the certificate {known}, not {serial}")
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < MIN_BITS:
        raise BadCredential(f"is no RSA key of {MIN_BITS} bits or more")
    return key


class KeyFiles(Generic[K]):
    """The keys in one file, or in the files of a directory. Used on one event loop."""

    def __init__(
        self,
        path: Path,
        serial: str,
        load: Callable[[bytes, str], K],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`path` is a file, with the `serial` number of its key, or a directory of files `{serial}.pem`.

        In a directory the newest file is for use, and all of them verify. `clock` in seconds. Raises BadCredential.
        """
        self._path, self._serial, self._load, self._clock = path, serial, load, clock
        self._stamps = self._current_stamps()
        self._refused: tuple[tuple[str, Stamp], ...] | None = None
        self._checked_s = clock()
        self._pairs: Pairs[K] = self._read()

    def __repr__(self) -> str:
        return f"KeyFiles({self._path})"

    def pairs(self) -> Pairs[K]:
        """The keys that are valid now, the one for use first."""
        now_s = self._clock()
        if now_s - self._checked_s >= RECHECK_S:
            self._checked_s = now_s
            self._refresh()
        return self._pairs

    def _refresh(self) -> None:
        stamps = self._current_stamps()
        if stamps in (self._stamps, self._refused):
            return
        try:
            self._pairs = self._read()
        except BadCredential as error:
            self._refused = stamps
            log.error("the new keys can't be used; the old ones stay in use", path=str(self._path), why=str(error))
        else:
            self._stamps, self._refused = stamps, None
            log.info("new keys are in use", path=str(self._path), serials=[serial for serial, _ in self._pairs])

    def _files(self) -> list[tuple[str, Path]]:
        if not self._path.is_dir():
            return [(self._serial, self._path)]
        found = [(stamp(file), file) for file in self._path.glob(f"*{SUFFIX}")]
        newest = sorted(found, key=lambda one: (-(one[0] or (0, 0, 0))[1], one[1].name))
        return [(file.stem, file) for _, file in newest]

    def _current_stamps(self) -> tuple[tuple[str, Stamp], ...]:
        return tuple((serial, stamp(file)) for serial, file in self._files())

    def _read(self) -> Pairs[K]:
        made = []
        for serial, file in self._files():
            if not _SERIAL.fullmatch(serial):
                raise BadCredential(f"{file.name}: {serial[:80]!r} is no serial number")
            try:
                made.append((serial, self._load(file.read_bytes(), serial)))
            except BadCredential as error:
                raise BadCredential(f"{file.name} {error}") from None
            except OSError as error:
                raise BadCredential(f"{file.name} can't be read: {error.strerror}") from None
        if not made:
            raise BadCredential(f"{self._path} has no files *{SUFFIX}")
        return tuple(made)
