"""The wheels that another repository installs: their names, the client, the command line and the pytest plugin."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tests.process.groupbuy_testing.foreign_project import GENERIC, ROOT, Environment, install, make_project
from tools.distributions import build_wheels

CLIENT = """
import sys
import groupbuy_client
from groupbuy.orders.v1 import orders_pb2
assert all(module.__file__.startswith(sys.prefix) for module in (groupbuy_client, orders_pb2))
with groupbuy_client.Client("127.0.0.1:1", timeout_s=0.2) as client:
    try:
        client.get_group("groups/x")
    except (groupbuy_client.Unavailable, groupbuy_client.TimedOut):
        print("used")
"""
TESTS = f"""
import sys
import pytest
GENERIC = {GENERIC!r}

def test_generic_names_are_the_projects(groupbuy_stack):
    import services, ops, deploy, eventlog
    assert services.MINE and ops.MINE and deploy.MINE and eventlog.MINE

def test_the_stack_runs(groupbuy_stack):
    assert all(groupbuy_stack.stack.pid(name) for name in ("provider", "orders", "groups"))
    groupbuy_stack.stack.kill("orders", restart=False)
    assert groupbuy_stack.stack.pid("orders") is None
    groupbuy_stack.stack.start_service("orders")
    groupbuy_stack.stack.wait_serving("orders", timeout=10)
    assert groupbuy_stack.orders is groupbuy_stack.orders

def test_contract_and_client_are_importable(groupbuy_stack):
    from groupbuy.orders.v1 import orders_pb2_grpc
    import groupbuy_client
    assert orders_pb2_grpc.OrderServiceStub(groupbuy_stack.orders)

def test_this_process_has_no_module_of_the_runtime(groupbuy_stack):
    files = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
    assert not [name for name in (*files, *sys.path) if "groupbuy_settlement/_runtime" in name]
"""
ASYNC = """
import asyncio
import pytest

@pytest.mark.asyncio
async def test_the_stack_can_be_used_from_asyncio(groupbuy_stack):
    async with groupbuy_stack.aio("orders") as channel:
        assert channel.get_state() is not None
"""


def contents(wheel: Path) -> set[str]:
    """The names of a wheel's files."""
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return build_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def installed(wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return install(wheels.values(), tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def caller(wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment of a caller: the client, without services and plugin."""
    return install([wheels["groupbuy-client"]], tmp_path_factory.mktemp("caller"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), TESTS + ASYNC, packages=GENERIC)


@pytest.mark.parametrize(
    ("distribution", "names"),
    [
        ("groupbuy-client", {"groupbuy", "groupbuy_client"}),
        ("groupbuy-settlement", {"groupbuy_settlement"}),
        ("groupbuy-testing", {"groupbuy_testing"}),
    ],
)
def test_a_wheel_takes_its_names_and_no_other(wheels: Mapping[str, Path], distribution: str, names: set[str]) -> None:
    found = {name.partition("/")[0] for name in contents(wheels[distribution])}
    assert {name for name in found if not name.endswith(".dist-info")} == names


def test_no_file_is_in_two_wheels(wheels: Mapping[str, Path]) -> None:
    found = Counter(name for wheel in wheels.values() for name in contents(wheel))
    assert [name for name, times in found.items() if times > 1] == []


def test_the_wheels_have_types_data_files_licences_and_no_tests(wheels: Mapping[str, Path]) -> None:
    runtime = "groupbuy_settlement/_runtime"
    assert {
        "groupbuy_client/py.typed",
        "groupbuy_client/service_config.json",
        "groupbuy_client/protos/groupbuy.binpb",
        "groupbuy_client/protos/groupbuy/orders/v1/orders.proto",
        "groupbuy_client/protos/buf/validate/validate.proto",
        "groupbuy_client/protos/google/rpc/error_details.proto",
        "groupbuy_client/protos/service_config/orders.json",
        "groupbuy/orders/v1/orders_pb2.pyi",
        "groupbuy/py.typed",
    } <= contents(wheels["groupbuy-client"])
    assert {
        f"{runtime}/services/orders/__main__.py",
        f"{runtime}/devstack/kafka/jars.sha256",
        f"{runtime}/protos/groupbuy.binpb",
    } <= contents(wheels["groupbuy-settlement"])
    for wheel in wheels.values():
        names = contents(wheel)
        assert {Path(name).name for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE"}
        assert not [name for name in names if {"tests", "bench", "__pycache__"} & set(Path(name).parts)]


def test_every_proto_of_the_descriptor_set_is_in_the_clients_wheel(wheels: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(wheels["groupbuy-client"]) as wheel:
        described = FileDescriptorSet.FromString(wheel.read("groupbuy_client/protos/groupbuy.binpb"))
        protos = {name.removeprefix("groupbuy_client/protos/") for name in wheel.namelist() if name.endswith(".proto")}
    assert "google/rpc/error_details.proto" in protos
    # Compilers bring the files of google/protobuf.
    assert {file.name for file in described.file if not file.name.startswith("google/protobuf/")} == protos


def test_the_same_commit_gives_the_same_wheels(tmp_path: Path) -> None:
    dated = {"SOURCE_DATE_EPOCH": "1790000000"}
    first, second = (build_wheels(tmp_path / name, dated) for name in ("first", "second"))
    assert [wheel.read_bytes() for wheel in first.values()] == [wheel.read_bytes() for wheel in second.values()]


def test_the_wheels_build_from_a_copy_of_the_source_archive(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("groupbuy_settlement-*/")
    done = subprocess.run(
        [sys.executable, "-m", "tools.distributions", str(tmp_path / "wheels")],
        cwd=source,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "wheels").glob("*.whl"))) == 3


def test_the_client_works_without_services_and_plugin(caller: Environment, project: Path) -> None:
    done = caller.run(caller.python, "-c", CLIENT, cwd=project)
    assert done.stdout == "used\n", done.stderr


@pytest.mark.parametrize(
    "mode", [(), ("-n", "2"), ("-o", "asyncio_mode=strict"), ("-n", "2", "-o", "asyncio_mode=auto")]
)
def test_the_plugin_runs_beside_packages_of_the_same_names(
    installed: Environment, project: Path, mode: tuple[str, ...]
) -> None:
    out = installed.pytest(project, *mode)
    assert "5 passed" in out, out


def test_the_contract_uses_the_environments_buf_validate(caller: Environment, tmp_path: Path) -> None:
    (site,) = caller.bin.parent.glob("lib/python*/site-packages")
    foreign = tmp_path / "buf" / "validate"
    foreign.mkdir(parents=True)
    text = (site / "groupbuy" / "vendored" / "validate_pb2.py").read_text()
    (foreign / "validate_pb2.py").write_text(text + "\nFOREIGN = True\n")
    code = (
        "import groupbuy.orders.v1.orders_pb2; from groupbuy.vendored import validate_pb2; print(validate_pb2.FOREIGN)"
    )
    done = caller.run(caller.python, "-c", code, cwd=tmp_path)
    assert done.stdout == "True\n", done.stderr


def test_the_command_line_runs_beside_packages_of_the_same_names(installed: Environment, project: Path) -> None:
    script = str(installed.bin / "groupbuy-ops")
    done = installed.run(script, "topics", "list", cwd=project, PYTHONPATH=str(project))
    assert done.returncode == 0, done.stderr
    assert "payments.payment.v1" in done.stdout


@pytest.mark.parametrize("service", ["orders", "groups", "payments"])
def test_a_service_runs_beside_packages_of_the_same_names(installed: Environment, project: Path, service: str) -> None:
    command = (installed.python, "-m", "groupbuy_settlement", f"services.{service}")
    done = installed.run(*command, cwd=project, PYTHONPATH=str(project))
    # Without settings a service names the missing variable: it was found, and has loaded its own packages.
    assert done.returncode == 2, done.stderr
    assert f"GROUPBUY_{service.upper()}_" in done.stderr


def test_without_java_the_installed_fixtures_fail_with_one_sentence(installed: Environment, tmp_path: Path) -> None:
    tests = "def test_a(kafka_broker): ...\ndef test_b(groupbuy_stack): ...\n"
    out = installed.pytest(make_project(tmp_path, tests, tiny=False), PATH="", XDG_CACHE_HOME=str(tmp_path))
    assert "2 errors" in out
    assert "\nA local Kafka needs Java 17 or newer and Maven: install it" in out
