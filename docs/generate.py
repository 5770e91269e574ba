"""Writes docs/transitions.md and docs/poison.md from the tables that code looks up; `--check` only finds drift."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from docs import poison_table
from services.groups.domain import transitions as groups
from services.payments.domain import transitions as payments

PAGE = Path(__file__).with_name("transitions.md")
POISON = Path(__file__).with_name("poison.md")


def page() -> str:
    """The whole page in Markdown."""
    return "\n".join(
        [
            "# Transitions",
            "",
            "Made from the tables that the deciders look up (`make docs`); a test finds drift.",
            "",
            "## Groups and orders",
            "",
            groups.table().rstrip(),
            "",
            "## Payments",
            "",
            payments.table().rstrip(),
            "",
        ]
    )


def main() -> int:
    """Writes or checks. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Writes docs/transitions.md and docs/poison.md.")
    parser.add_argument("--check", action="store_true", help="only say whether they have drifted")
    check = parser.parse_args().check
    drifted = 0
    for path, text in ((PAGE, page()), (POISON, poison_table.page())):
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{path.name} has drifted from the tables: run `make docs`.\n")
            drifted = 1
    return drifted


if __name__ == "__main__":
    raise SystemExit(main())
