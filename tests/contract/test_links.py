"""Each relative link of the documents leads to a file that exists, and to a heading that it has."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Folders of others, and of what is made.
LEFT_OUT = {"build", "dist", "gen", "node_modules"}
LINK = re.compile(r"\[[^\]\[]*\]\(<?([^()\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
CODE = re.compile(r"^(`{3,}).*?^\1`*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    found = ROOT.rglob("*.md")
    parts = [(path, path.relative_to(ROOT).parts[:-1]) for path in found]
    return sorted(path for path, folders in parts if not any(one in LEFT_OUT or one[0] == "." for one in folders))


def links(text: str) -> list[str]:
    """Targets in a document, without those of other sites."""
    found = [one or other for one, other in LINK.findall(CODE.sub("", text))]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while (one := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(one)
    return found


@pytest.mark.parametrize("document", [path.relative_to(ROOT).as_posix() for path in documents()])
def test_each_relative_link_of_a_document_exists(document: str) -> None:
    path = ROOT / document
    broken = []
    for target in links(path.read_text(encoding="utf-8")):
        name, _, anchor = unquote(target).partition("#")
        to = (path.parent / name).resolve() if name else path
        exists = to.exists() and to.is_relative_to(ROOT)
        if not exists or (anchor and to.suffix == ".md" and anchor not in anchors(to.read_text(encoding="utf-8"))):
            broken.append(target)
    assert not broken


def test_the_documents_of_a_repository_are_among_them() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in documents()}
    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/performance.md", "docs/glossary.md"} <= names


def test_links_and_headings_are_found() -> None:
    shown = "# One `two`: three\n[a](b.md#c) ![d](e.png) `[f](g)` [h](https://i)\n"
    text = f"{shown}```\n[j](k)\n```\n[l]: m.md\n## One two three\n"
    assert links(text) == ["b.md#c", "e.png", "m.md"]
    assert anchors(text) == {"one-two-three", "one-two-three-1"}


#: Paths in backticks that name a file of the repository: several folders, no placeholder.
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|toml|proto|md|json|sha256))`")


@pytest.mark.parametrize("document", [path.relative_to(ROOT).as_posix() for path in documents()])
def test_each_file_that_a_document_names_exists(document: str) -> None:
    path = ROOT / document
    named = PATH.findall(path.read_text(encoding="utf-8"))
    # A run writes `.run`.
    named = [one for one in named if not one.startswith(".run/")]
    assert [one for one in named if not (ROOT / one).exists() and not (path.parent / one).exists()] == []


def test_the_walkthrough_follows_one_order_through_at_most_30_files() -> None:
    text = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
    files = {target.partition("#")[0] for target in links(text)} - {"glossary.md", "transitions.md", ""}
    assert 15 <= len(files) <= 30
