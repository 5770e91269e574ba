"""Hostile texts for an operator's screen, and checks of the printed screen."""

from __future__ import annotations

import unicodedata

#: An order's id, a customer, a reason or a provider's text may have any of these.
TEXTS = {
    "clear the screen": "x\x1b[2J\x1b[H",
    "title": "x\x1b]0;owned\x07",
    "link": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "C1": "x\x9b2J\x9d0;owned\x9c",
    "forged line": "x\r\nno alarm: all is well",
    "separators": "x\u2028no alarm: all is well\u2029y\x0b\x0c\x85z",
    "bidi": "x\u202egnihton\u202c\u2066y\u2069",
    "marks": "x" + "\u0301" * 40,
    "zero width": "pay\u200bpal\ufeff\u00ad\u2060",
    "tags": "x\U000e0041\U000e007f",
    "markup": "[bold red]violation[/] [/] [link=https://evil.example]x[/link]",
    "end of markup": "x\\[/",
    "backspaces": "deny\x08\x08\x08\x08allow",
    "nul": "x\x00y\x7f",
}
ALL = " ".join(TEXTS.values())


def unsafe(screen: str) -> list[str]:
    """Control and invisible characters of a screen, without line feeds."""
    return [char for char in screen if char != "\n" and unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


def forged(screen: str) -> bool:
    """Whether a line begins with the attacker's text."""
    return any(line.lstrip().startswith("no alarm") for line in screen.splitlines())
