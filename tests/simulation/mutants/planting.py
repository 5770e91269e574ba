"""Planting bugs: a line of a function is written otherwise, and the function runs that way until it is undone.

The code of the function object itself is exchanged, so whoever holds the function, in a table or by an import, runs the
planted one. A line that is no longer there raises: a mutant can't go stale unseen. Must only be used in simulations.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any


class StaleMutant(LookupError):
    """The text to be changed is not there exactly once: write the mutant anew."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In this function, this text (which stands there once) becomes that text. Indented as if at the margin."""

    function: Callable[..., Any]
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug."""

    name: str
    #: What is wrong then, for people.
    breaks: str
    edits: tuple[Edit, ...]


def mutant(name: str, breaks: str, *edits: tuple[Callable[..., Any], str, str]) -> Mutant:
    """A mutant of (function, before, after)."""
    return Mutant(name, breaks, tuple(Edit(*edit) for edit in edits))


def getter(owner: type, name: str) -> Callable[..., Any]:
    """The function behind a property."""
    found = vars(owner)[name].fget
    assert callable(found)
    return found  # type: ignore[no-any-return]


@contextmanager
def planted(bug: Mutant) -> Iterator[None]:
    """Plants a bug for as long as the block lasts. Raises StaleMutant."""
    with ExitStack() as undo:
        for edit in bug.edits:
            function = edit.function
            assert isinstance(function, FunctionType), f"{function} has no code of its own"
            undo.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = _rewritten(bug.name, function, edit)
        yield


def _rewritten(name: str, function: FunctionType, edit: Edit) -> CodeType:
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(edit.before) != 1:
        raise StaleMutant(
            f"{name}: {edit.before!r} stands {source.count(edit.before)} times in {function.__qualname__}"
        )
    tree = ast.parse(source.replace(edit.before, edit.after))
    made = tree.body[0]
    assert isinstance(made, ast.FunctionDef | ast.AsyncFunctionDef)
    made.decorator_list = []
    space = dict(function.__globals__)
    flags = __future__.annotations.compiler_flag
    exec(compile(tree, f"<mutant {name}>", "exec", flags, dont_inherit=True), space)
    code = space[function.__name__].__code__
    assert isinstance(code, CodeType)
    return code
