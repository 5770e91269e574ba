"""Writes generated files, or compares them with the committed ones."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def run(
    description: str, generate: Callable[[], Mapping[Path, str]], command: str, arguments: Sequence[str] | None = None
) -> int:
    """Parses the arguments, and writes the files, or with `--check` only compares them. Returns the exit code.

    `command` is the one that writes the files; it is printed for a file that differs.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs from its source")
    check = parser.parse_args(arguments).check
    code = 0
    for path, text in generate().items():
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{path.name} is out of date: run `{command}`.\n")
            code = 1
    return code
