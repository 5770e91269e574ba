"""Standard output and standard error of the command line: of any encoding, closed, or on a full disk.

A character that the stream's encoding lacks is printed as a similar one, else as its escape, such as `\\u62fc`.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

#: The name of the error handler for encodings.
SIMILAR = "groupbuy-similar"
#: Similar characters, in the order of preference. Of the yen signs, GBK has the full-width one alone.
_SIMILAR = {
    "¥": ("￥", "Y"),
    "€": ("EUR ",),
    "£": ("GBP ",),
    "×": ("x",),
    "·": ("-",),
    "→": ("->",),
    "…": ("...",),
    "–": ("-",),
    "≤": ("<=",),
    "≥": (">=",),
}


def _similar(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_replacement(char, error.encoding) for char in text), error.end


def _replacement(char: str, encoding: str) -> str:
    for similar in _SIMILAR.get(char, ()):
        with suppress(UnicodeEncodeError):
            similar.encode(encoding)
            return similar
    return char.encode("ascii", "backslashreplace").decode()


codecs.register_error(SIMILAR, _similar)


def shown(text: str, encoding: str) -> str:
    """The text as a stream of this encoding prints it."""
    if text.isascii():
        return text
    return text.encode(encoding, SIMILAR).decode(encoding)


def prepare() -> None:
    """Lets both streams print any text. A stream that is closed at the start is replaced by the null device."""
    sys.stdout, sys.stderr = _prepared(sys.stdout), _prepared(sys.stderr)


def _prepared(stream: TextIO | None) -> TextIO:
    if stream is None:
        return _null()
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=SIMILAR)
    return stream


def discard() -> None:
    """Discards what standard output still holds, so that Python's exit does not report the same error again."""
    stream = sys.stdout
    with suppress(OSError, ValueError):
        number = stream.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    with suppress(OSError, ValueError):
        stream.flush()


def _null() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - lives as long as the process
