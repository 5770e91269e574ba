"""Secrets of an account at a provider: checked at start, and read again from their file when it changes.

Several secrets are valid side by side while they rotate: the first one is used for calls, all of them verify. A file
with unusable contents changes nothing; the reason is logged once. No message contains a secret.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from chassis.identity.file_stamp import Stamp, stamp

log = structlog.stdlib.get_logger(__name__)

#: Seconds between two checks of a file for changes.
RECHECK_S = 1.0

#: Checks one secret; raises ValueError with the reason.
Check = Callable[[str], None]


class BadCredential(ValueError):
    """A credential that can't be right. The message says why, without the credential."""


def require_plain(secret: str) -> None:
    """Raises BadCredential for white space, a PEM block, or characters that no secret of a provider has."""
    if "-----BEGIN" in secret:
        raise BadCredential("is a certificate or a PEM key, not a secret")
    if secret != secret.strip():
        raise BadCredential("has white space or a line feed at its beginning or end")
    if re.search(r"\s", secret):
        raise BadCredential("has white space or a line feed inside")
    if not secret.isascii() or not secret.isprintable():
        raise BadCredential("has characters outside ASCII")


def split_secrets(text: str, check: Check) -> tuple[str, ...]:
    """The secrets in a setting, separated by commas. Raises BadCredential."""
    found = tuple(text.split(",")) if text else ()
    for secret in found:
        _check(secret, check)
    return found


def read_secrets(path: Path, check: Check) -> tuple[str, ...]:
    """The secrets in a file, one a line. Raises BadCredential, OSError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise BadCredential("is not a text file") from None
    found = tuple(line for line in lines if line)
    if not found:
        raise BadCredential("is empty")
    if any("-----BEGIN" in line for line in found):
        raise BadCredential("is a certificate or a PEM key, not a file of secrets")
    for secret in found:
        _check(secret, check)
    return found


def _check(secret: str, check: Check) -> None:
    if not secret:
        raise BadCredential("has an empty part")
    require_plain(secret)
    check(secret)


class Secrets:
    """The secrets of one setting. Used on one event loop."""

    def __init__(self, text: str, file: Path | None, check: Check, clock: Callable[[], float] = time.monotonic) -> None:
        """The secrets of `file`, or of `text` without one. Raises BadCredential, OSError. `clock` in seconds."""
        self._file, self._check, self._clock = file, check, clock
        self._stamp: Stamp = stamp(file) if file is not None else None
        self._refused: Stamp = None
        self._checked_s = clock()
        self._secrets = read_secrets(file, check) if file is not None else split_secrets(text, check)

    def __repr__(self) -> str:
        return f"Secrets({len(self._secrets)})"

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def all(self) -> tuple[str, ...]:
        """All secrets that are valid now."""
        self._refresh()
        return self._secrets

    def first(self) -> str:
        """The secret for calls; empty if there is none."""
        return next(iter(self.all()), "")

    def _refresh(self) -> None:
        now_s = self._clock()
        if self._file is None or now_s - self._checked_s < RECHECK_S:
            return
        self._checked_s = now_s
        current = stamp(self._file)
        if current in (self._stamp, self._refused):
            return
        try:
            self._secrets = read_secrets(self._file, self._check)
        except (BadCredential, OSError) as error:
            self._refused = current
            log.error("the new secrets can't be used; the old ones stay in use", file=str(self._file), why=str(error))
        else:
            self._stamp, self._refused = current, None
            log.info("new secrets are in use", file=str(self._file))
