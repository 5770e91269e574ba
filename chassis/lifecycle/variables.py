"""The environment variables of a process: their reference, `--help`, and the search for unknown ones.

A field's meaning is the `#:` comment above it, as in the settings classes themselves.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

PREFIX = "GROUPBUY_"
#: Second parts of our variables' names. The processes of one machine may share an environment.
PROCESSES = ("ORDERS", "GROUPS", "PAYMENTS", "SIMPROVIDER", "OPS", "CONSOLE")

_FIELD = re.compile(r"    ([a-z]\w*)\s*:")
_COMMENT = re.compile(r"    #: ?(.*)")
_UNITS = (
    ("_seconds", "seconds"),
    ("_ms", "milliseconds"),
    ("_per_mille", "per mille"),
    ("_minor", "minor units of the currency"),
    ("_per_s", "per second"),
)
_BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
_KINDS: dict[Any, str] = {bool: "true or false", SecretStr: "secret", str: "text", Path: "path"}
# Kubernetes and Docker add these for a service whose name begins with "groupbuy-".
_LINK = re.compile(r".*_SERVICE_(HOST|PORT|PORT_\w+)|.*_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
_LINK_URL = re.compile(r"(tcp|udp|sctp)://.*")


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of a text, for the reference: `Annotated[str, ..., Shape("host:port")]`."""

    text: str


class Variable(NamedTuple):
    """A variable as the reference describes it."""

    name: str
    #: The values that it takes, with their unit and bounds.
    values: str
    #: Text of the default; `required` without one, empty if the setting is off by default.
    default: str
    meaning: str


def prefix_of(settings: type[BaseSettings]) -> str:
    """Common prefix of the names of the class's variables."""
    return str(settings.model_config.get("env_prefix", ""))


def variables(settings: type[BaseSettings]) -> list[Variable]:
    """All variables that the class reads, in the order of its fields."""
    meanings: dict[str, str] = {}
    for base in reversed(settings.__mro__):
        if issubclass(base, BaseSettings) and base is not BaseSettings:
            meanings |= _comments(base)
    return [
        Variable(f"{prefix_of(settings)}{name}".upper(), _values(name, field), _default(field), meanings.get(name, ""))
        for name, field in settings.model_fields.items()
    ]


def _comments(settings: type) -> dict[str, str]:
    """The `#:` comments of the fields that the class itself declares."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in inspect.getsource(settings).splitlines():
        if commented := _COMMENT.fullmatch(line):
            comment.append(commented[1])
            continue
        if comment and (field := _FIELD.match(line)):
            found[field[1]] = " ".join(comment)
        comment = []
    return found


def _values(name: str, field: FieldInfo) -> str:
    kind, metadata = _plain(field.annotation, field.metadata)
    unit = next((unit for ending, unit in _UNITS if name.endswith(ending)), "")
    if shape := next((one.text for one in metadata if isinstance(one, Shape)), ""):
        return shape
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        return f"JSON list of {unit or ('texts' if str in get_args(kind) else 'numbers')}"
    if kind in (int, float):
        return ", ".join([unit or "number", *_bounds(metadata)])
    if any(getattr(one, "path_type", "") == "file" for one in metadata):
        return "file"
    return _KINDS[kind]


def _bounds(metadata: Iterable[Any]) -> Iterable[str]:
    for one in metadata:
        for bounding, words in _BOUNDS:
            if (bound := getattr(one, bounding, None)) is not None:
                yield f"{words} {_text(bound)}"


def _plain(annotation: Any, metadata: Iterable[Any]) -> tuple[Any, list[Any]]:
    """The type behind Annotated and `| None`, with all its metadata."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _plain(inner, [*metadata, *more])
    if get_origin(annotation) in (Union, UnionType):
        inner = next(one for one in get_args(annotation) if one is not type(None))
        return _plain(inner, metadata)
    return annotation, list(metadata)


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else _text(field.default)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            return "[]" if not value else str(list(value))
        case float() if value.is_integer():
            return str(int(value))
    return str(value)


def parse_arguments(settings: type[BaseSettings], module: str, arguments: Sequence[str] | None = None) -> None:
    """Reads the command line of a process, which takes no argument except `--help`.

    `--help` prints the reference of its variables and exits with 0. Any other argument exits with 2.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true", help="print this reference and exit")
    if parser.parse_args(arguments).help:
        sys.stdout.write(reference(settings, module))
        raise SystemExit(0)


def reference(settings: type[BaseSettings], module: str) -> str:
    """The reference as text of at most 100 columns."""
    lines = [
        f"usage: python -m {module} [--help]",
        "",
        "Environment variables configure this process. It reads them once, at start. An invalid variable, or",
        f"an unknown one that begins with {PREFIX}, ends it with code 2.",
    ]
    for one in variables(settings):
        default = {"": "no default", "required": "required"}.get(one.default, f"default {one.default}")
        lines += ["", one.name, f"    {one.values}; {default}"]
        lines += textwrap.wrap(one.meaning, 96, initial_indent="    ", subsequent_indent="    ")
    return "\n".join([*lines, ""])


def unknown_variables(settings: type[BaseSettings], environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that no process reads, each with the nearest known name.

    A variable of another process is known here; that process checks it.
    """
    prefix = prefix_of(settings)
    known = [f"{prefix}{field}".upper() for field in settings.model_fields]
    others = tuple(f"{PREFIX}{process}_" for process in PROCESSES if f"{PREFIX}{process}_" != prefix)
    return {
        name: _nearest(name.upper(), prefix, known)
        for name, value in sorted(environment.items())
        if name.upper().startswith(PREFIX)
        and name.upper() not in known
        and not name.upper().startswith(others)
        and not _LINK.fullmatch(name)
        and not (name.endswith("_PORT") and _LINK_URL.fullmatch(value))
    }


def _nearest(name: str, prefix: str, known: Sequence[str]) -> str:
    process, _, rest = name.removeprefix(PREFIX).partition("_")
    meant = get_close_matches(process, PROCESSES, n=1)
    if meant and rest and f"{PREFIX}{meant[0]}_" != prefix:
        return f"{PREFIX}{meant[0]}_{rest}"
    return get_close_matches(name, known, n=1, cutoff=0.0)[0]
