"""The pytest plugin: a running system, or a bare broker, for integration tests of this and of other repositories.

pytest loads it wherever the package is installed, so it imports gRPC only when a fixture is used. System and broker run
in a process of their own: packages of the test process may have any names. Without Java or Maven the fixtures fail, and
the message says what to install; they never skip.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from groupbuy_testing.running import RunningStack

_LINES = 60
_RUNNING = pytest.StashKey["RunningStack"]()
T = TypeVar("T")


@pytest.fixture(scope="session")
def groupbuy_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The whole system: broker, simulated provider and three services. One per session (and per xdist worker)."""
    from groupbuy_testing.remote import RemoteStack
    from groupbuy_testing.running import RunningStack

    running = RunningStack(RemoteStack(tmp_path_factory.mktemp("groupbuy-stack")))
    # Stored before the start: the report of a failed start has the logs too.
    request.config.stash[_RUNNING] = running
    try:
        _or_fail(running.stack.start)
        yield running
    finally:
        running.close()
        running.stack.stop()


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a real Kafka broker without topics: $KAFKA, or a broker of this session."""
    from groupbuy_testing import control

    if external := os.environ.get("KAFKA"):
        yield external
        return
    directory = tmp_path_factory.mktemp("kafka")
    broker = control.Control([*control.BROKER, str(directory)], directory / "control.log")
    try:
        yield _or_fail(lambda: broker.call("start"))["kafka"]
    finally:
        broker.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attaches the end of every process's log to the report of a failed test that uses the stack."""
    report = yield
    running = item.config.stash.get(_RUNNING, None)
    if report.failed and running is not None and groupbuy_stack.__name__ in getattr(item, "fixturenames", ()):
        report.sections.extend((f"end of {name}", text) for name, text in running.log_ends(_LINES))
    return report


def _or_fail(start: Callable[[], T]) -> T:
    """Fails the test with the error's message alone, without a traceback, if the start fails."""
    from groupbuy_testing.control import StackError

    try:
        return start()
    except StackError as error:
        pytest.fail(str(error), pytrace=False)
