"""Writes plain values as YAML in block style: dictionaries, lists, texts, numbers and truth values.

A text that YAML could read as another value is quoted as in JSON, which is YAML too. A short list of scalars stands on
one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

#: Texts that every version of YAML reads as texts, in block and in flow style.
_PLAIN = re.compile(r"[A-Za-z_/$][A-Za-z0-9_./:$()-]*[A-Za-z0-9_/$)]|[A-Za-z_]")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_WIDTH = 110


def documents(values: Iterable[Mapping[str, Any]], comment: str) -> str:
    """Several documents in one text, after a comment."""
    parts = ["\n".join(_block(value, 0)) for value in values]
    return f"{comments(comment)}{'---' if len(parts) > 1 else ''}".rstrip() + "\n" + "\n---\n".join(parts) + "\n"


def comments(text: str) -> str:
    """The lines of a text as comments."""
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def _block(value: Any, indent: int) -> Iterator[str]:
    """The lines of a dictionary or a list that is not empty."""
    margin = " " * indent
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entry(f"{margin}{_scalar(key)}:", inner, indent + 2)
    else:
        for inner in value:
            if isinstance(inner, Mapping | list) and inner and _flow(inner, indent + 2) is None:
                first, *rest = _block(inner, indent + 2)
                yield f"{margin}- {first.lstrip()}"
                yield from rest
            else:
                yield from _entry(f"{margin}-", inner, indent + 2)


def _entry(head: str, value: Any, indent: int) -> Iterator[str]:
    if isinstance(value, str) and "\n" in value:
        # Two texts differ in their last line feed only: `|` keeps one, `|-` none.
        yield f"{head} |{'' if value.endswith(chr(10)) else '-'}"
        yield from (f"{' ' * indent}{line}".rstrip() for line in value.removesuffix("\n").split("\n"))
    elif not isinstance(value, Mapping | list | tuple):
        yield f"{head} {_scalar(value)}"
    elif (flow := _flow(value, indent)) is not None:
        yield f"{head} {flow}"
    else:
        yield head
        # The items of a list stand below the key.
        yield from _block(value, indent if isinstance(value, Mapping) else indent - 2)


def _flow(value: Mapping[str, Any] | Sequence[Any], indent: int) -> str | None:
    """The value on one line if it is empty or a short list of scalars."""
    if not value:
        return "{}" if isinstance(value, Mapping) else "[]"
    if isinstance(value, Mapping) or any(isinstance(one, Mapping | list | tuple) for one in value):
        return None
    text = f"[{', '.join(_scalar(one) for one in value)}]"
    return text if indent + len(text) <= _WIDTH and "\\n" not in text else None


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
