"""Goal: with the oldest and the newest dependencies, and with each version between, the wheels import and work.

Method: fresh environments with exactly the resolved versions. A script imports every module; another one calls a server
with both clients; the services and the command line start; another project's pytest uses the plugin.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import pytest
from grpc_tools import protoc

from tests.install.combinations import OLD_GRPCIO_NEW_PROTOBUF, PYTHONS, SINGLES
from tests.install.environments import create, download, lower_bounds, resolve, size
from tests.process.groupbuy_testing.foreign_project import GENERIC, Environment, make_project
from tools.distributions import FOLDERS, ROOT

PROBES = Path(__file__).resolve().parent / "probes"
#: The modules of the client and its contract; of all distributions. Fewer mean that packages were not found.
MIN_MODULES = {"groupbuy-client": 40, "groupbuy-testing": 400}
#: Bytes of the wheels of the client and of all its dependencies.
MAX_DOWNLOAD = 15_000_000
TESTS = """
import groupbuy_client

def test_the_stack_runs_beside_packages_of_the_same_names(groupbuy_stack):
    import services
    assert services.MINE
    assert all(groupbuy_stack.stack.pid(name) for name in ("provider", "orders", "groups"))
    assert groupbuy_stack.orders is groupbuy_stack.orders
"""
Pins = Mapping[str, str]


def imports_all(environment: Environment, distribution: str, directory: Path) -> None:
    done = environment.run(environment.python, "-P", str(PROBES / "import_all.py"), cwd=directory)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= MIN_MODULES[distribution]


def calls_a_server(environment: Environment, pins: Pins, directory: Path) -> None:
    done = environment.run(environment.python, "-P", str(PROBES / "client_call.py"), cwd=directory)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "captured": [7900, 7900],
        # The first of the four was unavailable; the service config retried it.
        "attempts": 4,
        "refused": {"reason": "INVALID_FIELDS", "fields": {"name": "is unknown"}},
        "grpcio": pins["grpcio"],
        "protobuf": pins["protobuf"],
    }


def starts_commands(environment: Environment, directory: Path) -> None:
    listed = environment.run(str(environment.bin / "groupbuy-ops"), "topics", "list", cwd=directory)
    assert listed.returncode == 0, listed.stderr
    assert "payments.payment.v1" in listed.stdout
    for service in ("orders", "groups", "payments"):
        module = f"services.{service}"
        done = environment.run(environment.python, "-m", "groupbuy_settlement", module, cwd=directory)
        # Without settings a service names the missing variable.
        assert done.returncode == 2, done.stderr
        assert f"GROUPBUY_{service.upper()}_" in done.stderr


def works(environment: Environment, pins: Pins, directory: Path) -> None:
    """All distributions do their work in this environment."""
    project = make_project(directory / "project", TESTS, packages=GENERIC)
    imports_all(environment, "groupbuy-testing", directory)
    calls_a_server(environment, pins, directory)
    starts_commands(environment, project)
    out = environment.pytest(project)
    assert "1 passed" in out, out
    assert not [line for line in out.splitlines() if "Warning" in line and "groupbuy" in line], out


def versions(pins: Pins) -> str:
    names = ("grpcio", "protobuf", "pytest", "stripe", "pydantic-settings")
    return ", ".join(f"{name} {pins[name]}" for name in names if name in pins)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("python", PYTHONS)
def test_all_work_with_the_oldest_dependencies(wheels: Path, tmp_path: Path, python: str) -> None:
    pins = resolve(lower_bounds(), wheels, python, "--resolution", "lowest-direct")
    works(create(tmp_path / "fresh", python, pins, wheels), pins, tmp_path)
    print(f"\nPython {python}, oldest: {versions(pins)}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("python", PYTHONS)
def test_all_work_with_the_newest_dependencies(wheels: Path, tmp_path: Path, python: str) -> None:
    pins = resolve(FOLDERS, wheels, python)
    works(create(tmp_path / "fresh", python, pins, wheels), pins, tmp_path)
    print(f"\nPython {python}, newest: {versions(pins)}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("requirement", SINGLES)
def test_all_work_with_each_version(wheels: Path, tmp_path: Path, requirement: str) -> None:
    pins = resolve([*FOLDERS, requirement], wheels, PYTHONS[0])
    works(create(tmp_path / "fresh", PYTHONS[0], pins, wheels), pins, tmp_path)
    print(f"\n{requirement}: {versions(pins)}")


@pytest.mark.parametrize("requirements", [(), OLD_GRPCIO_NEW_PROTOBUF], ids=["newest", "old grpcio, new protobuf"])
def test_the_client_works_alone(wheels: Path, tmp_path: Path, requirements: tuple[str, ...]) -> None:
    pins = resolve(["groupbuy-client", *requirements], wheels, PYTHONS[0])
    environment = create(tmp_path / "fresh", PYTHONS[0], pins, wheels)
    imports_all(environment, "groupbuy-client", tmp_path)
    calls_a_server(environment, pins, tmp_path)


def test_the_client_works_beside_another_buf_validate(wheels: Path, tmp_path: Path) -> None:
    # protovalidate 1 imports buf.validate, which each of its users generates: here from another version of the proto,
    # since protobuf refuses a second file of one name only if their contents differ.
    pins = resolve(["groupbuy-client", "protovalidate<2"], wheels, PYTHONS[0])
    environment = create(tmp_path / "fresh", PYTHONS[0], pins, wheels)
    (site,) = environment.bin.parent.glob("lib/python*/site-packages")
    protos = tmp_path / "protos"
    shutil.copytree(ROOT / "protos" / "buf", protos / "buf")
    theirs = protos / "buf" / "validate" / "validate.proto"
    theirs.write_text(theirs.read_text(encoding="utf-8") + "\nmessage Foreign {}\n", encoding="utf-8")
    included = resources.files("grpc_tools") / "_proto"
    assert protoc.main(["protoc", f"-I{protos}", f"-I{included}", f"--python_out={site}", str(theirs)]) == 0
    ours, other = "from groupbuy.orders.v1 import orders_pb2", "import protovalidate"
    check = "; ".join(
        (
            "found = protovalidate.Validator().collect_violations(orders_pb2.PlaceOrderRequest())",
            "from buf.validate import validate_pb2",
            "print(bool(found), validate_pb2.Foreign.DESCRIPTOR.full_name)",
        )
    )
    for first, second in ((ours, other), (other, ours)):
        done = environment.run(environment.python, "-c", f"{first}; {second}; {check}", cwd=tmp_path)
        assert done.stdout == "True buf.validate.Foreign\n", done.stderr
    calls_a_server(environment, pins, tmp_path)


def test_the_client_is_small(wheels: Path, tmp_path: Path) -> None:
    pins = resolve(["groupbuy-client"], wheels, PYTHONS[0])
    downloaded = download(tmp_path / "downloaded", pins, wheels)
    installed = size(create(tmp_path / "fresh", PYTHONS[0], pins, wheels))
    for name, version in pins.items():
        print(
            f"\n{name} {version}: wheel {downloaded[name] / 1e6:.2f} MB, installed {installed[name] / 1e6:.1f} MB",
            end="",
        )
    print(
        f"\ntogether: wheels {sum(downloaded.values()) / 1e6:.1f} MB, installed {sum(installed.values()) / 1e6:.1f} MB"
    )
    assert set(pins) == {
        *("groupbuy-client", "googleapis-common-protos", "grpcio", "protobuf", "typing-extensions", "uuid-utils"),
    }
    assert downloaded["groupbuy-client"] <= 0.5e6
    assert sum(downloaded.values()) <= MAX_DOWNLOAD
