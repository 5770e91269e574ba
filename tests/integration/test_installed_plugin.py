"""The installed plugin starts the real system for another repository, beside packages that have the runtime's names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.groupbuy_testing.foreign_project import GENERIC, install, make_project
from tools.distributions import build_wheels

TESTS = """
import groupbuy_client
import pytest
import services

def test_a_service_answers_before_and_after_a_kill(groupbuy_stack):
    assert services.MINE
    with groupbuy_client.Client(groups=groupbuy_stack.endpoints["groups"], timeout_s=10) as client:
        with pytest.raises(groupbuy_client.NotFound):
            client.get_group("groups/9f6c1c5e-0000-4000-8000-000000000001")
    first = groupbuy_stack.stack.pid("groups")
    groupbuy_stack.stack.kill("groups")
    groupbuy_stack.stack.wait_serving("groups")
    assert groupbuy_stack.stack.pid("groups") != first

def test_the_broker_restarts(groupbuy_stack):
    groupbuy_stack.stack.broker.kill()
    groupbuy_stack.stack.broker.restart()
    assert groupbuy_stack.stack.failure() is None

def test_a_bare_broker(kafka_broker):
    host, port = kafka_broker.split(":")
    assert int(port)
"""


@pytest.mark.parametrize("mode", [(), ("-n", "2", "--dist", "loadfile"), ("-o", "asyncio_mode=strict")])
def test_the_installed_plugin_runs_the_system(tmp_path: Path, mode: tuple[str, ...]) -> None:
    fresh = install(build_wheels(tmp_path / "wheels").values(), tmp_path / "fresh")
    project = make_project(tmp_path / "project", TESTS, packages=GENERIC, tiny=False)
    out = fresh.pytest(project, *mode, timeout_s=110)
    assert "3 passed" in out, out
