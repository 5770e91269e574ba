"""A folder of the product has few modules side by side, so that a reader can see all of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = (
    "eventlog", "chassis", "shared_kernel", "services", "simulators", "ops", "console", "devstack",
    "groupbuy_client", "groupbuy_testing", "tools", "bench", "deploy",
)  # fmt: skip
MAX_MODULES = 14


def modules_by_folder() -> Counter[str]:
    """Number of modules of each folder, without `__init__.py` and `__main__.py`."""
    found = (path for top in PRODUCT for path in (ROOT / top).rglob("*.py"))
    return Counter(str(one.parent.relative_to(ROOT)) for one in found if not one.name.startswith("__"))


def test_each_package_of_the_product_is_counted() -> None:
    counted = {folder.partition("/")[0] for folder in modules_by_folder()}
    assert counted == set(PRODUCT)


def test_a_folder_has_few_modules_side_by_side() -> None:
    crowded = {folder: count for folder, count in modules_by_folder().items() if count > MAX_MODULES}
    assert crowded == {}, "move modules that belong together into a folder of their own"
