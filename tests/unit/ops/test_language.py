"""Texts that people read are in the terms of the glossary; phrases that were replaced do not come back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: Replaced phrases, each with a term in its place.
REPLACED = {
    r"\blet go\b|\blet_go\b": "released",
    r"\bpurses?\b": "the payments of a group",
    r"\btell the\b|\btells the\b": "record, report",
    r"\bfor ever\b": "without limit; cannot be changed later",
    r"\bin the open\b": "pending",
    r"\bdefects? of ours\b": "a defect",
    r"\bmends?\b|\bmended\b": "repair, fix",
    r"\bheed": "honour, use",
    r"\bas it stands\b|\bas they stand\b": "unchanged",
    r"asks? who comes|who may do what": "authenticates; ACLs",
    r"\bcan't be so\b": "invalid",
    r"\bis no group\b|\bis no order\b": "is not a group name",
    r"nothing is known of|\bthere is no (?:groups|orders|campaigns)/": "not found",
    r"known to clients alone": "cannot be checked from topics",
    r"rightly so": "valid",
    r"\bwould have ended otherwise\b|\bended otherwise\b": "had a different outcome",
    r"\bhow to mend it\b|(?<!-)\bfeed it\b": "run with --feed to record it",
    r"\bits signature does not hold\b": "invalid signature",
    r"\bone's own write\b": "read-your-writes",
    r"\bhad not come by\b": "not known before the deadline",
    r"\bits? keepers\b|\bthe broker's keepers\b": "administrators",
    r"\blooks after\b": "inspects and operates",
    r"\bputs code\b|\bshape\b(?= *$)": "formats",
    r"\bwishe[sd]\b": "requests",
    r"\bmust never\b": "does not, with the test that proves it",
}
#: Folders and files whose every line is read: by operators, integrators and newcomers.
TEXTS = ("ops", "protos/groupbuy", "devstack", "README.md", "Makefile", "docs/commands.md", "docs/configuration.md")
SUFFIXES = {".py", ".proto", ".md", ""}


def lines() -> Iterator[tuple[str, str]]:
    for name in TEXTS:
        path = ROOT / name
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and file.suffix in SUFFIXES:
                for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                    yield f"{file.relative_to(ROOT)}:{number}", line


TEXT = list(lines())


def test_the_texts_are_read() -> None:
    read = {place.partition(":")[0] for place, _ in TEXT}
    assert {"README.md", "ops/main.py", "protos/groupbuy/orders/v1/orders.proto", "devstack/up.py"} <= read


@pytest.mark.parametrize("phrase", REPLACED)
def test_a_replaced_phrase_is_not_used(phrase: str) -> None:
    pattern = re.compile(phrase, re.IGNORECASE)
    found = [f"{place}: {line.strip()} (write: {REPLACED[phrase]})" for place, line in TEXT if pattern.search(line)]
    assert found == []
