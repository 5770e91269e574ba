"""The commands of a page: its fenced blocks, by heading and language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\s*$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    heading: str
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    """All fenced blocks of a Markdown file, in order. Raises ValueError if the last one has no end."""
    found: list[Block] = []
    heading, language, lines = "", None, list[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        fence = _FENCE.match(line)
        if language is None and fence:
            language, lines = fence.group(1), []
        elif fence and language is not None:
            found.append(Block(heading, language, "\n".join(lines) + "\n"))
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    if language is not None:
        raise ValueError(f"{path}: the block below {heading!r} has no end")
    return found


def section(path: Path, heading: str, language: str) -> list[str]:
    """The blocks of one language below a heading. Raises ValueError if there is none."""
    found = [block.text for block in blocks(path) if block.heading == heading and block.language == language]
    if not found:
        raise ValueError(f"{path} has no {language} block below {heading!r}")
    return found
