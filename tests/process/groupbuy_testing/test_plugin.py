"""The pytest plugin, run as another repository would: in a directory of its own, by a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = """
import functools
import pytest
import devstack.stack
from tests.unit.devstack.fakes import FOR_EVER, broker, plan

@pytest.fixture(scope="session", autouse=True)
def _tiny():
    code = "print('all is lost', flush=True); " + FOR_EVER
    with broker() as kafka:
        devstack.stack.Stack = functools.partial(devstack.stack.Stack, kafka=kafka, plan=plan(orders=code))
        yield
"""
TESTS = """
from devstack.supervision.waiting import wait_for

def test_it_is_up(groupbuy_stack):
    assert groupbuy_stack.stack.pid("orders")
    assert groupbuy_stack.endpoints["orders"].startswith("127.0.0.1:")
    assert groupbuy_stack.orders is groupbuy_stack.orders

def test_it_fails(groupbuy_stack):
    assert wait_for(lambda: groupbuy_stack.log_ends(10), timeout_s=10)
    assert False

def test_it_fails_without_the_stack():
    assert False
"""


def pytest_in(directory: Path, tests: str, **environment: str) -> str:
    (directory / "test_theirs.py").write_text(tests)
    bare = {name: value for name, value in os.environ.items() if name not in {"KAFKA", "JAVA_HOME"}}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", "-v"]
    ended = subprocess.run(
        command, cwd=directory, env={**bare, **environment}, capture_output=True, text=True, check=False
    )
    return ended.stdout + ended.stderr


def test_logs_are_attached_to_a_failed_test_that_uses_the_stack(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    out = pytest_in(tmp_path, TESTS)
    assert "2 failed, 1 passed" in out
    assert out.count("end of orders.log") == 1
    assert "all is lost" in out.split("end of orders.log")[1]


def test_without_java_the_fixtures_fail_with_one_sentence(tmp_path: Path) -> None:
    tests = "def test_a(kafka_broker): ...\ndef test_b(groupbuy_stack): ...\n"
    out = pytest_in(tmp_path, tests, PATH="", XDG_CACHE_HOME=str(tmp_path))
    assert "2 errors" in out
    assert "\nA local Kafka needs Java 17 or newer and Maven: install it" in out
    assert "Traceback" not in out
    assert "skipped" not in out


def test_a_run_without_its_fixtures_loads_nothing_of_weight(tmp_path: Path) -> None:
    tests = "import sys\ndef test_light(): assert not {'grpc', 'aiokafka', 'devstack.stack'} & set(sys.modules)\n"
    assert "1 passed" in pytest_in(tmp_path, tests)
