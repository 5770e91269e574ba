"""Prints for people and programs. Every command prints through here or through `ops.console`: see
chassis/telemetry/printable.py.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from chassis.telemetry.printable import json_safe, shown, shown_bytes

__all__ = ["as_json", "echo", "say", "shown", "shown_bytes"]


def echo(text: object) -> None:
    """Prints one line."""
    typer.echo(shown(text))


def say(text: object) -> None:
    """Writes one line to standard error."""
    sys.stderr.write(shown(text) + "\n")


def as_json(value: Any) -> str:
    """One JSON value on one line, in which a terminal finds nothing to obey."""
    return json_safe(json.dumps(value, ensure_ascii=False))
