"""The pytest plugin, run by another pytest in a directory of its own."""

from __future__ import annotations

from pathlib import Path

from devstack.supervision.waiting import wait_for
from tests.process.groupbuy_testing.foreign_project import OURS, make_project
from tests.unit.devstack.fakes import alive

TESTS = """
import os, time
import pytest
from groupbuy_testing.control import StackError

def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)

def test_it_is_up(groupbuy_stack):
    assert groupbuy_stack.stack.pid("orders")
    assert groupbuy_stack.stack.names == ("provider", "orders", "groups")
    assert groupbuy_stack.stack.partitions == 4
    assert groupbuy_stack.endpoints["orders"].startswith("127.0.0.1:")
    assert groupbuy_stack.orders is groupbuy_stack.orders

def test_processes_are_killed_stopped_and_frozen_by_name(groupbuy_stack):
    stack = groupbuy_stack.stack
    first = stack.pid("groups")
    stack.kill("groups")
    until(lambda: stack.pid("groups") not in {None, first})
    stack.stop_service("groups")
    assert stack.pid("groups") is None
    with pytest.raises(StackError, match="groups did not serve within 0.2 s"):
        stack.wait_serving("groups", timeout=0.2)
    stack.start_service("groups")
    stack.wait_serving("groups", timeout=10)
    stack.freeze("groups")
    stack.thaw("groups")
    assert stack.add_replica("groups") == "groups-1"
    assert stack.endpoints["groups-1"]
    assert stack.failure() is None
    assert "last words" in stack.log("orders")
    with pytest.raises(StackError, match="the stack has no 'shop', only provider, orders, groups"):
        stack.kill("shop")
    with pytest.raises(StackError, match="is not ours"):
        stack.broker.restart()

def test_it_fails(groupbuy_stack):
    until(lambda: groupbuy_stack.log_ends(10))
    assert False

def test_it_fails_without_the_stack():
    assert False
"""
ENDS_HARD = """
import os
def test_end(groupbuy_stack):
    print("pids", *(groupbuy_stack.stack.pid(name) for name in groupbuy_stack.stack.names), flush=True)
    os._exit(3)
"""


def test_a_failed_test_that_uses_the_stack_has_the_ends_of_its_logs(tmp_path: Path) -> None:
    out = OURS.pytest(make_project(tmp_path, TESTS))
    assert "2 failed, 2 passed" in out, out
    assert out.count("end of orders.log") == 1
    assert "the last words of orders" in out.split("end of orders.log")[1]


def test_a_stack_stops_when_its_test_process_ends_without_a_teardown(tmp_path: Path) -> None:
    out = OURS.pytest(make_project(tmp_path, ENDS_HARD), "-s")
    pids = [int(word) for word in out.split("pids")[1].split()[:3]]
    assert wait_for(lambda: not any(map(alive, pids)), timeout_s=20)


def test_without_java_the_fixtures_fail_with_one_sentence(tmp_path: Path) -> None:
    tests = "def test_a(kafka_broker): ...\ndef test_b(groupbuy_stack): ...\n"
    out = OURS.pytest(make_project(tmp_path, tests, tiny=False), PATH="", XDG_CACHE_HOME=str(tmp_path))
    assert "2 errors" in out
    assert "\nA local Kafka needs Java 17 or newer and Maven: install it" in out
    assert "Traceback" not in out
    assert "skipped" not in out


def test_a_process_that_can_not_start_fails_the_fixture_with_its_output(tmp_path: Path) -> None:
    project = make_project(tmp_path, "def test_a(groupbuy_stack): ...\n")
    (project / "tiny" / "tiny_stack.py").write_text("raise SystemExit('no such runtime')")
    out = OURS.pytest(project)
    assert "1 error" in out
    assert "the process that runs the stack has ended:\nno such runtime" in out


def test_a_run_without_its_fixtures_loads_nothing_of_weight(tmp_path: Path) -> None:
    tests = "import sys\ndef test_light(): assert not {'grpc', 'aiokafka', 'devstack'} & set(sys.modules)\n"
    assert "1 passed" in OURS.pytest(make_project(tmp_path, tests, tiny=False))
