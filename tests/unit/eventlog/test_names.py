"""The kernel contains no name of the product."""

from __future__ import annotations

from pathlib import Path

import eventlog


def test_the_kernel_contains_no_name_of_the_product() -> None:
    root = Path(eventlog.__file__).parent
    modules = list(root.rglob("*.py"))
    assert modules
    assert [str(one.relative_to(root)) for one in modules if "groupbuy" in one.read_text()] == []
