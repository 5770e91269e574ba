r"""Makes text that others wrote safe to print: identifiers, reasons, provider texts, keys and headers of records.

A terminal executes control characters, a line feed forges a line, and bidi controls hide the text before them.
`printable` replaces each such character by its escape: \n, \x1b, \u202e.
"""

from __future__ import annotations

import unicodedata

#: Unicode categories that are escaped: control, format (bidi, zero width), surrogate, private use, unassigned, line
#: separator, paragraph separator.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Invisible letters, and variation selectors.
_INVISIBLE = frozenset(
    {0x115F, 0x1160, 0x3164, 0xFFA0, 0x034F, 0x2800, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
)
#: Combining marks on one letter. More of them cover the lines above.
_MARKS = 3
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: object) -> str:
    """The text on one line, with control and invisible characters escaped. Idempotent."""
    raw = text if isinstance(text, str) else str(text)
    if raw.isascii() and raw.isprintable():
        return raw
    found: list[str] = []
    marks = 0
    for char in raw:
        marks = marks + 1 if unicodedata.category(char) in {"Mn", "Me"} else 0
        found.append(_escaped(char) if marks > _MARKS or _unsafe(char) else char)
    return "".join(found)


def printable_bytes(raw: bytes | None) -> str:
    """As `printable`, for bytes that should be UTF-8."""
    return printable((raw or b"").decode(errors="backslashreplace"))


def printable_lines(text: str) -> str:
    """As `printable`, for a text whose line feeds are ours."""
    return "\n".join(printable(line) for line in text.split("\n"))


def json_safe(encoded: str) -> str:
    """Encoded JSON with the same characters as JSON escapes. All others stay readable."""
    if encoded.isascii() and "\x7f" not in encoded:
        return encoded
    # JSON itself escapes the characters below the space.
    return "".join(_json_escape(char) if char > "~" and _unsafe(char) else char for char in encoded)


def _unsafe(char: str) -> bool:
    category = unicodedata.category(char)
    return category in _UNSAFE or ord(char) in _INVISIBLE or (category == "Zs" and char != " ")


def _escaped(char: str) -> str:
    code = ord(char)
    if char in _NAMES:
        return _NAMES[char]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
