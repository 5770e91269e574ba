"""Names and passwords of operators. `python -m console.web.passwords NAME` asks for a password and prints a line."""

from __future__ import annotations

import base64
import binascii
import getpass
import hmac
import secrets
import sys
from hashlib import scrypt, sha256
from pathlib import Path

_N, _R, _P = 2**14, 8, 1
_KEPT = 256
_MAX_HEADER = 1_000


class BadOperators(ValueError):
    """The file is not valid. The message has the line."""


def line(name: str, password: str) -> str:
    """The line of an operator, with a fresh salt."""
    salt = secrets.token_bytes(16)
    return f"{name}:{salt.hex()}:{_hash(password, salt).hex()}"


def _hash(password: str, salt: bytes) -> bytes:
    return scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=64 * 1024 * 1024, dklen=32)


class Operators:
    """The operators of a file."""

    def __init__(self, file: Path) -> None:
        """Raises BadOperators and OSError."""
        self._known: dict[str, tuple[bytes, bytes]] = {}
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not text.strip() or text.startswith("#"):
                continue
            name, _, rest = text.partition(":")
            salt, _, digest = rest.partition(":")
            try:
                self._known[name] = bytes.fromhex(salt), bytes.fromhex(digest)
            except ValueError:
                raise BadOperators(f"{file}, line {number}: not a line of `python -m console.web.passwords`") from None
        if not self._known:
            raise BadOperators(f"{file} names no operator")
        #: Digests of headers that were right: a password costs 50 ms, and a page has several requests.
        self._right: dict[bytes, str] = {}

    def recent(self, header: str) -> str | None:
        """Name of the operator of an Authorization header that was right before. Takes no time."""
        return self._right.get(_digest(header))

    @staticmethod
    def is_plausible(header: str) -> bool:
        """Whether an Authorization header has a name and a password. Takes no time."""
        return _parsed(header) is not None

    def name_of(self, header: str) -> str | None:
        """Name of the operator of an Authorization header; None if it is not right. May take 50 ms."""
        if (name := self.recent(header)) is not None:
            return name
        parsed = _parsed(header)
        if parsed is None:
            return None
        given, password = parsed
        salt, wanted = self._known.get(given, (b"\0" * 16, b""))
        if not hmac.compare_digest(_hash(password, salt), wanted):
            return None
        if len(self._right) >= _KEPT:
            self._right.clear()
        self._right[_digest(header)] = given
        return given


def _digest(header: str) -> bytes:
    return sha256(header.encode(errors="replace")).digest()


def _parsed(header: str) -> tuple[str, str] | None:
    """Name and password of an Authorization header; None if it is none, or too long."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(header) >= _MAX_HEADER:
        return None
    try:
        given, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return given, password


def main() -> int:
    """Prints the line of an operator. Returns the exit code."""
    if len(sys.argv) != 2 or ":" in sys.argv[1]:
        sys.stderr.write("usage: python -m console.web.passwords NAME\n")
        return 2
    sys.stdout.write(line(sys.argv[1], getpass.getpass()) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
