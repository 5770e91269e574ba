"""The pytest plugin: a running system, or a bare broker, for integration tests of this and of other repositories.

Loaded into every pytest run where the package is installed, so it imports nothing of weight until a fixture is used.
Without Java or Maven the fixtures fail and say what to install; they never skip.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from groupbuy_testing.running import RunningStack

_LINES = 60
_RUNNING = pytest.StashKey["RunningStack"]()


@pytest.fixture(scope="session")
def groupbuy_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The whole system: broker, simulated provider, three services that serve. One a session, in its own directory."""
    from devstack.stack import Stack
    from groupbuy_testing.running import RunningStack

    running = RunningStack(Stack(tmp_path_factory.mktemp("groupbuy-stack")))
    # Before the start, so that a start that fails shows the logs too.
    request.config.stash[_RUNNING] = running
    try:
        _start(running.stack.start)
        yield running
    finally:
        running.close()
        running.stack.stop()


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a real Kafka broker without any topics: $KAFKA, else one of the session's own."""
    from devstack.kafka.broker import Broker

    if external := os.environ.get("KAFKA"):
        yield external
        return
    broker = Broker()
    try:
        _start(lambda: broker.start(tmp_path_factory.mktemp("kafka")))
        yield broker.bootstrap
    finally:
        broker.release()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attaches the end of every process's log to the report of a failed test that uses the stack."""
    report = yield
    running = item.config.stash.get(_RUNNING, None)
    if report.failed and running is not None and groupbuy_stack.__name__ in getattr(item, "fixturenames", ()):
        report.sections.extend((f"end of {name}", text) for name, text in running.log_ends(_LINES))
    return report


def _start(start: Callable[[], None]) -> None:
    """Starts; what a person can mend fails the test with its one sentence, not with a traceback."""
    from devstack.errors import DeployError

    try:
        start()
    except DeployError as error:
        pytest.fail(str(error), pytrace=False)
