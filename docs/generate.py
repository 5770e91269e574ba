"""Writes docs/transitions.md from the transition tables that the deciders look up; `--check` only finds drift."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from services.groups.domain import transitions as groups
from services.payments.domain import transitions as payments

PAGE = Path(__file__).with_name("transitions.md")


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
    parser = argparse.ArgumentParser(description="Writes docs/transitions.md.")
    parser.add_argument("--check", action="store_true", help="only say whether it has drifted")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    sys.stderr.write(f"{PAGE.name} has drifted from the tables: run `make docs`.\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
