"""Flame graphs of Python processes, by py-spy."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path


def recording(output: Path, rate: int, what: Sequence[str]) -> list[str]:
    """The command that records a flame graph, so many samples a second; `what` is py-spy's own arguments."""
    output.parent.mkdir(parents=True, exist_ok=True)
    spy = str(Path(sys.executable).with_name("py-spy"))
    return [spy, "record", "--rate", str(rate), "--output", str(output), *what]


def entitle(output: Path) -> None:
    """Gives a flame graph its file's name for a title: py-spy's is its command line, with the paths of this machine."""
    svg = output.read_text(encoding="utf-8")
    output.write_text(re.sub(r'(<text id="title"[^>]*>)[^<]*', rf"\g<1>{output.stem}", svg, count=1), encoding="utf-8")
