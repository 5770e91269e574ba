"""The three distributions have one version, ranges of dependencies that docs/installing.md explains, and no gap."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

from tools.distributions import FOLDERS, ROOT, BuildFailed, common_version, project
from tools.sbom import normalized

DOCS = ROOT / "docs" / "installing.md"
#: The code of each distribution.
SOURCES = {
    "groupbuy-client": ("gen/groupbuy", "groupbuy_client"),
    "groupbuy-settlement": (
        *("groupbuy_settlement", "eventlog", "chassis", "shared_kernel", "services", "simulators", "devstack"),
        *("ops", "console"),
    ),
    "groupbuy-testing": ("groupbuy_testing",),
}
#: Packages that come with a declared dependency and are a part of its interface: Faust's service classes, the models of
#: pydantic-settings, and the URLs of Faust and aiohttp.
BROUGHT = {"mode-streaming", "pydantic", "pydantic-core", "yarl"}


def dependencies(distribution: str) -> dict[str, str]:
    """The range of each dependency, those of extras included."""
    table = project(distribution)
    declared = [*table["dependencies"], *chain(*table.get("optional-dependencies", {}).values())]
    found = (re.fullmatch(r"([a-z0-9-]+)(.*)", one) for one in declared)
    return {one[1]: one[2] for one in found if one}


def imported(distribution: str) -> set[str]:
    """The other distributions that its code imports."""
    owners = packages_distributions()
    names = set()
    for folder in SOURCES[distribution]:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module)
                elif isinstance(node, ast.Import):
                    names |= {one.name for one in node.names}
    tops = {name.partition(".")[0] for name in names if not name.startswith("google.")} - sys.stdlib_module_names
    found = {normalized(owner) for top in tops for owner in owners.get(top, ())}
    found |= {"protobuf"} if any(name.startswith("google.protobuf") for name in names) else set()
    found |= {"googleapis-common-protos"} if any(name.startswith("google.rpc") for name in names) else set()
    ours = {name: folders for name, folders in SOURCES.items() if name != distribution}
    found |= {name for name, folders in ours.items() if {Path(folder).name for folder in folders} & tops}
    return found - {distribution}


def test_all_have_one_version_and_name_each_other_by_it() -> None:
    version = common_version()
    assert dependencies("groupbuy-settlement")["groupbuy-client"] == f">={version}"
    testing = dependencies("groupbuy-testing")
    assert testing["groupbuy-client"] == testing["groupbuy-settlement"] == f"=={version}"


def test_versions_that_differ_are_refused(tmp_path: Path) -> None:
    for folder in FOLDERS.values():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / folder / "pyproject.toml", tmp_path / folder)
    changed = tmp_path / FOLDERS["groupbuy-testing"] / "pyproject.toml"
    changed.write_text(
        changed.read_text(encoding="utf-8").replace(f'version = "{common_version()}"', 'version = "9.9"')
    )
    with pytest.raises(BuildFailed, match=r"versions differ.*groupbuy-testing 9\.9"):
        common_version(tmp_path)


@pytest.mark.parametrize("distribution", FOLDERS)
def test_other_dependencies_are_ranges_with_a_lower_bound(distribution: str) -> None:
    for name, bounds in dependencies(distribution).items():
        if not name.startswith("groupbuy-"):
            assert re.fullmatch(r">=[0-9.]+(,<[0-9.]+)?", bounds), f"{name}{bounds}: pin versions in the locks"


@pytest.mark.parametrize("distribution", FOLDERS)
def test_each_upper_bound_has_its_reason_in_the_docs(distribution: str) -> None:
    explained = set(re.findall(r"^\| ([a-z0-9-]+) \| .* \| .+ \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name for name, bounds in dependencies(distribution).items() if "<" in bounds} <= explained


@pytest.mark.parametrize("distribution", FOLDERS)
def test_the_code_imports_declared_dependencies_only(distribution: str) -> None:
    assert imported(distribution) - BROUGHT <= set(dependencies(distribution))
