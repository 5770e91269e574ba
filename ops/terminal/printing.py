"""Texts and JSON without control characters, for `ops.terminal.output` and for error messages."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

from chassis.telemetry.printable import json_safe, printable, printable_bytes

__all__ = ["as_json", "printable", "printable_bytes", "say"]


def say(text: object) -> None:
    """Writes one line to standard error. An error stream that can't be written is ignored: no other one is left."""
    with suppress(OSError, ValueError):
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()


def as_json(value: Any) -> str:
    """A JSON value on one line, without control characters. ASCII alone where standard output is not UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return json_safe(json.dumps(value, ensure_ascii=not encoding.lower().startswith("utf")))
