"""Plants bugs: replaces a text in the source of a function, and runs the function so until the block ends.

The code of the function object itself is exchanged, so every reference to the function, in a table or by an import,
runs the planted code. If the text is no longer in the source, planting raises StaleMutant.
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
    """The text to replace is not in the function exactly once. Adapt the mutant to the new source."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces `before`, which is in the function exactly once, by `after`. The source is dedented first."""

    function: Callable[..., Any]
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug."""

    name: str
    #: The planted mistake in words.
    breaks: str
    edits: tuple[Edit, ...]
    #: File of the unit tests that have to find it; empty: the simulation has to.
    tests: str = ""


def mutant(name: str, breaks: str, *edits: tuple[Callable[..., Any], str, str], tests: str = "") -> Mutant:
    """A mutant of (function, before, after)."""
    return Mutant(name, breaks, tuple(Edit(*edit) for edit in edits), tests)


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
        raise StaleMutant(f"{name}: {edit.before!r} is {source.count(edit.before)} times in {function.__qualname__}")
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
