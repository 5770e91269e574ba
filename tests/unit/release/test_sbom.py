"""The SBOM names every package of the lock, with its version, package URL and hashes."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tools.sbom import LockUnreadable, Pinned, make_sbom, read_lock

ROOT = Path(__file__).resolve().parents[3]
A, B, C = "a" * 64, "b" * 64, "c" * 64
LOCK = f"""# made by hand
Some_Package.One==1.2.3 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
other==2.0+local ; sys_platform == 'win32' or python_full_version < '3.12' \\
    --hash=sha256:{C}
"""
PROJECT = {"name": "the_shop", "version": "0.2.0", "description": "A shop", "dependencies": ["some-package.one==1.2.3"]}
TIME = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def test_a_lock_is_read_with_names_versions_hashes_and_markers() -> None:
    assert read_lock(LOCK) == (
        Pinned("some-package-one", "1.2.3", (A, B)),
        Pinned("other", "2.0+local", (C,), "sys_platform == 'win32' or python_full_version < '3.12'"),
    )


@pytest.mark.parametrize(
    "line", ["name==1.0", "name>=1.0 --hash=sha256:" + A, "-e .", f"name==1.0 \\\n    --hash=md5:{A}", "name==1.0 \\\n"]
)
def test_a_lock_with_anything_else_is_refused(line: str) -> None:
    with pytest.raises(LockUnreadable):
        read_lock(LOCK + line + "\n")


def test_the_sbom_has_a_component_for_each_package() -> None:
    sbom = make_sbom(PROJECT, read_lock(LOCK), TIME)
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert sbom["metadata"]["timestamp"] == "2026-11-30T12:00:00+00:00"
    assert sbom["metadata"]["component"]["purl"] == "pkg:pypi/the-shop@0.2.0"
    first, second = sbom["components"]
    assert first == {
        "type": "library",
        "bom-ref": "pkg:pypi/some-package-one@1.2.3",
        "name": "some-package-one",
        "version": "1.2.3",
        "purl": "pkg:pypi/some-package-one@1.2.3",
        "hashes": [{"alg": "SHA-256", "content": A}, {"alg": "SHA-256", "content": B}],
    }
    assert second["properties"][0]["value"].startswith("sys_platform")
    assert sbom["dependencies"] == [
        {"ref": "pkg:pypi/the-shop@0.2.0", "dependsOn": ["pkg:pypi/some-package-one@1.2.3"]},
    ]


def test_the_same_lock_gives_the_same_sbom_and_another_one_another_number() -> None:
    one, again = (make_sbom(PROJECT, read_lock(LOCK), TIME) for _ in range(2))
    other = make_sbom(PROJECT, read_lock(LOCK.replace(C, A)), TIME)
    assert json.dumps(one) == json.dumps(again)
    assert one["serialNumber"] != other["serialNumber"]
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", one["serialNumber"])


def test_the_sbom_of_this_project_has_every_package_of_its_lock_and_every_direct_dependency() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    client = Pinned("groupbuy-client", "0.2.0", (A,))
    sbom = make_sbom(project, (client, *read_lock(text)), TIME)
    components = sbom["components"]
    assert len(components) == 1 + len(re.findall(r"^[A-Za-z0-9][^\n]*==", text, re.MULTILINE))
    assert sum(len(one["hashes"]) for one in components) == 1 + text.count("--hash=sha256:")
    references = [one["bom-ref"] for one in components]
    assert len(set(references)) == len(references)
    (root,) = sbom["dependencies"]
    assert len(root["dependsOn"]) == len(project["dependencies"])
    assert set(root["dependsOn"]) <= set(references)
