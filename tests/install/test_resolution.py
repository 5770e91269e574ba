"""Goal: uv finds versions for the wheels beside each promised version of a dependency, on each Python and platform."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.install.combinations import (
    AXES,
    CLIENT_PLATFORMS,
    GRPCIO_FOR_PROTOBUF_7,
    LOCKED_SOURCE_ONLY,
    OLD_GRPCIO_NEW_PROTOBUF,
    PLATFORMS,
    PRODUCTS,
    PYTHONS,
    SINGLES,
    SOURCE_ONLY,
)
from tests.install.environments import Unresolvable, lower_bounds, resolve
from tools.distributions import FOLDERS, ROOT, project
from tools.sbom import read_lock


@pytest.mark.parametrize("requirements", PRODUCTS, ids=", ".join)
def test_every_combination_resolves(wheels: Path, requirements: tuple[str, ...]) -> None:
    pins = resolve([*FOLDERS, "groupbuy-settlement[tracing]", *requirements], wheels, PYTHONS[0])
    assert set(FOLDERS) | set(AXES) <= set(pins)


@pytest.mark.parametrize("python", PYTHONS[1:])
@pytest.mark.parametrize("requirement", SINGLES)
def test_every_version_resolves_on_newer_pythons(wheels: Path, python: str, requirement: str) -> None:
    assert set(FOLDERS) <= set(resolve([*FOLDERS, requirement], wheels, python))


def test_the_client_takes_old_grpcio_with_new_protobuf(wheels: Path) -> None:
    pins = resolve(["groupbuy-client", *OLD_GRPCIO_NEW_PROTOBUF], wheels, PYTHONS[0])
    assert (pins["grpcio"].split(".")[:2], pins["protobuf"].split(".")[0]) == (["1", "76"], "7")


def test_the_services_take_protobuf_7_from_the_documented_grpcio_on(wheels: Path) -> None:
    with pytest.raises(Unresolvable, match="protobuf"):
        resolve(["groupbuy-settlement", f"grpcio<{GRPCIO_FOR_PROTOBUF_7}", "protobuf>=7"], wheels, PYTHONS[0])
    resolve(["groupbuy-settlement", f"grpcio=={GRPCIO_FOR_PROTOBUF_7}.*", "protobuf>=7"], wheels, PYTHONS[0])


def has_wheels(
    requirements: Iterable[str], wheels: Path, python: str, platform: str, source_only: Iterable[str] = ()
) -> dict[str, str]:
    """Resolves for another platform. Only the dependencies `source_only` may, and do, lack a wheel for it."""
    requirements, target = list(requirements), ("--python-platform", platform)
    if not source_only:
        return resolve(requirements, wheels, python, *target, "--only-binary", ":all:")
    for name in source_only:
        with pytest.raises(Unresolvable, match=f"{name}.* has no usable wheels"):
            resolve(requirements, wheels, python, *target, "--only-binary", name)
    names = set(resolve(requirements, wheels, python, *target)) - set(source_only)
    return resolve(requirements, wheels, python, *target, *(f"--only-binary={name}" for name in sorted(names)))


@pytest.mark.parametrize("platform", CLIENT_PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_client_and_its_dependencies_have_wheels(wheels: Path, platform: str, python: str) -> None:
    assert "grpcio" in has_wheels(["groupbuy-client"], wheels, python, platform)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_all_dependencies_have_wheels(wheels: Path, platform: str, python: str) -> None:
    pins = has_wheels(FOLDERS, wheels, python, platform, SOURCE_ONLY.get(platform, ()))
    assert set(FOLDERS) <= set(pins)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_locked_versions_have_wheels(wheels: Path, platform: str, python: str) -> None:
    locked = read_lock((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    requirements = [f"{one.name}=={one.version}" + (f" ; {one.marker}" if one.marker else "") for one in locked]
    pins = has_wheels(requirements, wheels, python, platform, LOCKED_SOURCE_ONLY.get(platform, ()))
    assert pins.items() <= {one.name: one.version for one in locked}.items()
    assert {"grpcio", "protobuf", "aiokafka", "rocksdict"} <= set(pins)


def test_the_tested_oldest_versions_are_the_lower_bounds(wheels: Path) -> None:
    oldest = resolve(lower_bounds(), wheels, PYTHONS[0], "--resolution", "lowest-direct")
    assert oldest["grpcio"].startswith("1.76.")
    assert oldest["protobuf"] == "6.31.1"
    assert set(oldest) >= {
        one.partition(">")[0].partition("=")[0] for one in project("groupbuy-settlement")["dependencies"]
    }
