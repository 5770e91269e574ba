"""Flame graphs of Python processes with py-spy."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path


def recording(output: Path, rate: int, target: Sequence[str]) -> list[str]:
    """The command that records a flame graph at `rate` samples a second; `target` are further arguments of py-spy."""
    output.parent.mkdir(parents=True, exist_ok=True)
    spy = str(Path(sys.executable).with_name("py-spy"))
    return [spy, "record", "--rate", str(rate), "--output", str(output), *target]


def entitle(output: Path) -> None:
    """Sets the title of a flame graph to its file name. py-spy's title is a command line with local paths."""
    svg = output.read_text(encoding="utf-8")
    output.write_text(re.sub(r'(<text id="title"[^>]*>)[^<]*', rf"\g<1>{output.stem}", svg, count=1), encoding="utf-8")
