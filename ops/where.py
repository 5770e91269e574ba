"""Addresses of the broker, the provider and the payments service: the option, else the environment, else `make up`.

Without any of these a command ends with one sentence that says what to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.completion import Complete, offering
from ops.errors import CANNOT_RUN, OpsError

STACK_FILE = Path(".run/stack.json")


def _known(find: Callable[[], str]) -> Complete:
    """Completes to the address that the command would use without the option."""

    def complete(incomplete: str) -> list[str]:
        try:
            return offering([find()])(incomplete)
        except OpsError:
            return []

    return complete


Kafka = Annotated[
    str | None,
    typer.Option(
        "--kafka",
        help="Broker, host:port. Default: $KAFKA, else the stack of `make up`.",
        autocompletion=_known(lambda: broker(None)),
    ),
]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="Provider, host:port. Default: $PROVIDER, else the stack of `make up`.",
        autocompletion=_known(lambda: provider(None)),
    ),
]


Payments = Annotated[
    str | None,
    typer.Option(
        "--payments",
        help="Payments service, host:port. Default: $PAYMENTS_AT, else the stack of `make up`.",
        autocompletion=_known(lambda: payments(None)),
    ),
]


def broker(given: str | None, stack_file: Path = STACK_FILE) -> str:
    """The address of the broker, host:port. Raises OpsError."""
    found = given or os.environ.get("KAFKA") or _of_stack(stack_file, lambda stack: stack["kafka"])
    if not found:
        raise OpsError(
            "the broker's address is missing: start a stack with `make up`, or use --kafka host:port", CANNOT_RUN
        )
    return _address(found, "--kafka")


def provider(given: str | None, stack_file: Path = STACK_FILE) -> str:
    """The address of the provider, host:port. Raises OpsError."""
    found = given or os.environ.get("PROVIDER") or _of_stack(stack_file, lambda stack: stack["endpoints"]["provider"])
    if not found:
        raise OpsError(
            "the provider's address is missing: start a stack with `make up`, use --provider host:port, "
            "or omit the comparison with --without-provider",
            CANNOT_RUN,
        )
    return _address(found, "--provider")


def payments(given: str | None, stack_file: Path = STACK_FILE) -> str:
    """The address of the payments service, host:port. Raises OpsError."""
    found = payments_if_known(given, stack_file)
    if not found:
        raise OpsError(
            "the address of the payments service is missing: start a stack with `make up`, or use --payments host:port",
            CANNOT_RUN,
        )
    return found


def payments_if_known(given: str | None, stack_file: Path = STACK_FILE) -> str:
    """As `payments`; empty if no address is given. Raises OpsError."""
    found = given or os.environ.get("PAYMENTS_AT")
    found = found or _of_stack(stack_file, lambda stack: stack["endpoints"]["payments"])
    return _address(found, "--payments") if found else ""


def _of_stack(stack_file: Path, pick: Callable[[Any], str]) -> str | None:
    try:
        return pick(json.loads(stack_file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OpsError(
            f"{stack_file} can't be used ({error!r}): start the stack again with `make up`", CANNOT_RUN
        ) from error


def _address(text: str, option: str) -> str:
    for one in text.split(","):
        host, _, port = one.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise OpsError(f"{text!r} is not an address: {option} takes host:port", CANNOT_RUN)
    return text
