"""A release needs one version everywhere, and a dated section of the changelog that lists changes."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from tools.release import ReleaseRefused, changelog_section, checksums, version_of

ROOT = Path(__file__).resolve().parents[3]
CHANGELOG = """# Changelog

## [0.3.0] - Unreleased

### Added

- A thing.

## [0.2.0] - 2026-12-01

### Fixed

- A fault.

## [0.1.1] - 2026-11-28

Nothing of note.

## 0.1.0 - 2026-11-27

- The first version.

[0.2.0]: https://example.org/0.2.0
"""


def test_a_dated_section_is_given_without_its_heading_and_without_others() -> None:
    assert changelog_section(CHANGELOG, "0.2.0") == "### Fixed\n\n- A fault."
    assert changelog_section(CHANGELOG, "0.1.0") == "- The first version."


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("0.3.0", "has no date"),
        ("0.4.0", "has no section for"),
        ("0.2", "has no section for"),
        ("0.1.1", "lists no change"),
    ],
)
def test_a_section_that_is_missing_undated_or_empty_is_refused(version: str, reason: str) -> None:
    with pytest.raises(ReleaseRefused, match=reason):
        changelog_section(CHANGELOG, version)


def test_a_date_that_is_none_and_a_section_that_stands_twice_are_refused() -> None:
    with pytest.raises(ReleaseRefused, match="has no date"):
        changelog_section(CHANGELOG.replace("2026-12-01", "2026-13-01"), "0.2.0")
    with pytest.raises(ReleaseRefused, match="has 2 sections"):
        changelog_section(CHANGELOG + "\n## [0.2.0] - 2026-12-02\n\n- Again.\n", "0.2.0")


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [(["v0.2.0"], ""), ([], "0.2.0"), (["v0.2.0", "nightly", "vendor"], "0.2.0")],
)
def test_the_version_comes_from_the_tag_or_the_argument(tags: list[str], wanted: str) -> None:
    assert version_of(tags, wanted, "0.2.0") == "0.2.0"


@pytest.mark.parametrize(
    ("tags", "wanted", "project", "reason"),
    [
        ([], "", "0.2.0", "has no tag"),
        (["0.2.0", "nightly"], "", "0.2.0", "has no tag"),
        (["v0.2.0"], "0.3.0", "0.2.0", "several versions"),
        (["v0.2.0", "v0.2.1"], "", "0.2.0", "several versions"),
        (["v0.2.0"], "", "0.1.0", "pyproject.toml has 0.1.0"),
        ([], "next", "next", "is no version"),
    ],
)
def test_versions_that_differ_are_refused(tags: list[str], wanted: str, project: str, reason: str) -> None:
    with pytest.raises(ReleaseRefused, match=reason):
        version_of(tags, wanted, project)


def test_checksums_are_sorted_by_name_and_as_sha256sum_reads_them(tmp_path: Path) -> None:
    for name in ("b.whl", "a.tar.gz"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    first, second = checksums(tmp_path.iterdir()).splitlines()
    assert first == f"{hashlib.sha256(b'a.tar.gz').hexdigest()}  a.tar.gz"
    assert second.endswith("  b.whl")


def test_the_changelog_of_this_project_has_a_version_that_follows_or_is_that_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[?([0-9.]+)\]? - ", text, re.MULTILINE)
    assert project["version"] in versions[:2]
    assert versions == sorted(versions, key=lambda one: [int(part) for part in one.split(".")], reverse=True)


def test_the_licence_is_the_unmodified_text() -> None:
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
