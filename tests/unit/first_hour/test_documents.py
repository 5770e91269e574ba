"""The commands of a page are its fenced blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.first_hour.documents import Block, blocks, section

ROOT = Path(__file__).resolve().parents[3]
PAGE = "# One\n```sh\na\nb\n```\ntext\n## Two\n```python\n# no heading\n```\n```sh\nc\n```\n"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_blocks_have_heading_language_and_text(page: Path) -> None:
    assert blocks(page) == [
        Block("One", "sh", "a\nb\n"),
        Block("Two", "python", "# no heading\n"),
        Block("Two", "sh", "c\n"),
    ]


def test_a_section_has_the_blocks_of_one_language(page: Path) -> None:
    assert section(page, "Two", "sh") == ["c\n"]
    with pytest.raises(ValueError, match="no python block below 'One'"):
        section(page, "One", "python")


def test_a_block_without_an_end_is_an_error(page: Path) -> None:
    page.write_text(PAGE + "```sh\n")
    with pytest.raises(ValueError, match="below 'Two' has no end"):
        blocks(page)


@pytest.mark.parametrize("page", ["README.md", "docs/identities.md"])
def test_every_program_of_a_page_can_be_compiled(page: str) -> None:
    programs = [block for block in blocks(ROOT / page) if block.language == "python"]
    assert programs
    for block in programs:
        compile(block.text, block.heading, "exec")


def test_nothing_in_readme_has_the_ids_that_make_up_prints() -> None:
    from devstack import up

    assert '"campaign_id": "CAMPAIGN"' in up._EXAMPLE
    assert "mug-" not in (ROOT / "README.md").read_text(encoding="utf-8")
