"""The wheel that another repository installs: its names, the client, the command line and the pytest plugin."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.process.groupbuy_testing.foreign_project import (
    GENERIC,
    Environment,
    build_wheel,
    install,
    make_project,
)

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
FOREIGN_BUF = """
import groupbuy.orders.v1.orders_pb2
from groupbuy.vendored import validate_pb2
print(validate_pb2.FOREIGN)
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return install(wheel, tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), TESTS + ASYNC, packages=GENERIC)


def test_the_wheel_takes_four_names_and_its_metadata(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        "groupbuy",
        "groupbuy_client",
        "groupbuy_settlement",
        "groupbuy_testing",
    }


def test_the_wheel_has_types_data_files_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    runtime = "groupbuy_settlement/_runtime"
    assert {
        "groupbuy_client/py.typed",
        "groupbuy_client/service_config.json",
        "groupbuy/orders/v1/orders_pb2.pyi",
        "groupbuy/py.typed",
        f"{runtime}/services/orders/__main__.py",
        f"{runtime}/devstack/kafka/jars.sha256",
        f"{runtime}/protos/groupbuy.binpb",
    } <= names
    assert not [name for name in names if {"tests", "bench", "__pycache__"} & set(Path(name).parts)]


def test_the_client_works_from_the_wheel(installed: Environment, project: Path) -> None:
    done = installed.run(installed.python, "-c", CLIENT, cwd=project)
    assert done.stdout == "used\n", done.stderr


@pytest.mark.parametrize(
    "mode", [(), ("-n", "2"), ("-o", "asyncio_mode=strict"), ("-n", "2", "-o", "asyncio_mode=auto")]
)
def test_the_plugin_runs_beside_packages_of_the_same_names(
    installed: Environment, project: Path, mode: tuple[str, ...]
) -> None:
    out = installed.pytest(project, *mode)
    assert "5 passed" in out, out


def test_the_contract_uses_the_environments_buf_validate(installed: Environment, tmp_path: Path) -> None:
    (site,) = installed.bin.parent.glob("lib/python*/site-packages")
    foreign = tmp_path / "buf" / "validate"
    foreign.mkdir(parents=True)
    text = (site / "groupbuy" / "vendored" / "validate_pb2.py").read_text()
    (foreign / "validate_pb2.py").write_text(text + "\nFOREIGN = True\n")
    code = (
        "import groupbuy.orders.v1.orders_pb2; from groupbuy.vendored import validate_pb2; print(validate_pb2.FOREIGN)"
    )
    done = installed.run(installed.python, "-c", code, cwd=tmp_path)
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
