"""The cache of jars: complete or not there, fetched once however many ask. By a script that stands in for Maven."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deploy.errors import BrokerFailed, Cancelled
from deploy.kafka import jars
from deploy.waiting import wait_for
from tests.unit.deploy.test_tools import script

FETCH = 'for word in "$@"; do case $word in -DoutputDirectory=*) out=${word#*=};; esac; done; echo x >> "$CALLS"\n'


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


def left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache" / "groupbuy").iterdir()]


def test_jars_are_fetched_once_into_a_folder_named_by_the_pom(tmp_path: Path) -> None:
    script(tmp_path / "bin", "mvn", FETCH + 'touch "$out/kafka.jar"')
    assert jars.resolve() == jars.resolve() == jars.folder()
    assert left(tmp_path) == [jars.folder().name]
    assert [path.name for path in jars.folder().iterdir()] == ["kafka.jar"]
    assert (tmp_path / "calls").read_text().count("x") == 1


def test_two_processes_at_once_fetch_once(tmp_path: Path) -> None:
    script(tmp_path / "bin", "mvn", FETCH + 'sleep 0.5; touch "$out/kafka.jar"')
    code = "from deploy.kafka import jars; print(len(list(jars.resolve().iterdir())))"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == [b"1\n", b"1\n"]
    assert (tmp_path / "calls").read_text().count("x") == 1
    assert left(tmp_path) == [jars.folder().name]


def test_a_fetch_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    script(tmp_path / "bin", "mvn", FETCH + 'touch "$out/half.jar"; echo "no route to host"; exit 1')
    with pytest.raises(BrokerFailed, match=r"(?s)Maven could not fetch.*KAFKA=host:port.*no route to host"):
        jars.resolve()
    assert left(tmp_path) == []


def test_a_fetch_that_is_cut_off_leaves_nothing_and_no_process(tmp_path: Path) -> None:
    script(tmp_path / "bin", "mvn", FETCH + 'touch "$out/half.jar"; sleep 1000')
    cancel = threading.Event()
    errors: list[Exception] = []

    def resolve() -> None:
        try:
            jars.resolve(cancel)
        except Cancelled as error:
            errors.append(error)

    thread = threading.Thread(target=resolve)
    thread.start()
    assert wait_for((tmp_path / "calls").exists, timeout_s=10)
    cancel.set()
    thread.join(timeout=10)
    assert len(errors) == 1
    assert left(tmp_path) == []


def test_where_somebody_was_quicker_theirs_stays(tmp_path: Path) -> None:
    script(
        tmp_path / "bin",
        "mvn",
        FETCH + f'touch "$out/ours.jar"; mkdir -p "{jars.folder()}"; touch "{jars.folder()}/theirs.jar"',
    )
    assert [path.name for path in jars.resolve().iterdir()] == ["theirs.jar"]
    assert left(tmp_path) == [jars.folder().name]
