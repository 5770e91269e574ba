"""Prints lines and JSON without control characters. Every command prints through this module or `ops.console`."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from chassis.telemetry.printable import json_safe, printable, printable_bytes

__all__ = ["as_json", "echo", "printable", "printable_bytes", "say"]


def echo(text: object) -> None:
    """Prints one line."""
    typer.echo(printable(text))


def say(text: object) -> None:
    """Writes one line to standard error."""
    sys.stderr.write(printable(text) + "\n")


def as_json(value: Any) -> str:
    """A JSON value on one line, without control characters."""
    return json_safe(json.dumps(value, ensure_ascii=False))
