"""The cache of jars: complete or absent, and downloaded once for any number of processes. A script replaces Maven."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from devstack.errors import BrokerFailed, Cancelled
from devstack.kafka import jars
from devstack.supervision.waiting import wait_for
from tests.unit.devstack.test_tools import script

PINS = jars.SUMS
DOWNLOAD = 'for word in "$@"; do case $word in -DoutputDirectory=*) out=${word#*=};; esac; done; echo x >> "$CALLS"\n'


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    pin(tmp_path, monkeypatch, "kafka.jar")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


def pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Path:
    """Pins jars without bytes."""
    sums = tmp_path / "jars.sha256"
    sums.write_text("# pinned\n" + "".join(f"{sha256().hexdigest()}  {name}\n" for name in names))
    monkeypatch.setattr(jars, "SUMS", sums)
    return sums


def cached(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache" / "groupbuy").iterdir()]


def test_jars_are_downloaded_once_to_a_folder_named_by_the_pom(tmp_path: Path) -> None:
    script(tmp_path / "bin", "mvn", DOWNLOAD + 'touch "$out/kafka.jar"')
    assert jars.resolve() == jars.resolve() == jars.folder()
    assert cached(tmp_path) == [jars.folder().name]
    assert [path.name for path in jars.folder().iterdir()] == ["kafka.jar"]
    assert (tmp_path / "calls").read_text().count("x") == 1


def test_two_concurrent_processes_download_once(tmp_path: Path) -> None:
    script(tmp_path / "bin", "mvn", DOWNLOAD + 'sleep 0.5; touch "$out/kafka.jar"')
    sums = str(jars.SUMS)
    code = (
        f"from pathlib import Path; from devstack.kafka import jars; jars.SUMS = Path({sums!r}); "
        "print(len(list(jars.resolve().iterdir())))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == [b"1\n", b"1\n"]
    assert (tmp_path / "calls").read_text().count("x") == 1
    assert cached(tmp_path) == [jars.folder().name]


def test_a_failed_download_reports_the_reason_and_leaves_no_file(tmp_path: Path) -> None:
    script(tmp_path / "bin", "mvn", DOWNLOAD + 'touch "$out/half.jar"; echo "no route to host"; exit 1')
    with pytest.raises(BrokerFailed, match=r"(?s)Maven could not download.*KAFKA=host:port.*no route to host"):
        jars.resolve()
    assert cached(tmp_path) == []


def test_a_cancelled_download_leaves_no_file_and_no_process(tmp_path: Path) -> None:
    script(tmp_path / "bin", "mvn", DOWNLOAD + 'touch "$out/half.jar"; sleep 1000')
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
    assert cached(tmp_path) == []


@pytest.mark.parametrize("change", ["changed", "added", "missing"])
def test_every_start_rejects_jars_with_another_checksum(change: str, tmp_path: Path) -> None:
    script(tmp_path / "bin", "mvn", DOWNLOAD + 'touch "$out/kafka.jar"')
    kafka = jars.resolve() / "kafka.jar"
    if change == "missing":
        kafka.unlink()
    else:
        (kafka if change == "changed" else kafka.with_name("more.jar")).write_bytes(b"\0")
    with pytest.raises(BrokerFailed, match=r"(kafka|more)\.jar differ from jars\.sha256"):
        jars.resolve()
    # A download with a wrong checksum is not installed.
    shutil.rmtree(jars.folder())
    script(tmp_path / "bin", "mvn", DOWNLOAD + 'echo x > "$out/kafka.jar"')
    with pytest.raises(BrokerFailed, match=r"kafka\.jar differ"):
        jars.resolve()
    assert cached(tmp_path) == []


def test_every_jar_of_the_cache_is_pinned() -> None:
    pins = [line for line in PINS.read_text().splitlines() if not line.startswith("#")]
    assert len({line.split()[1] for line in pins}) == len(pins) > 80
    assert all(len(line.split()[0]) == 64 for line in pins)


def test_the_jars_of_a_faster_process_stay(tmp_path: Path) -> None:
    theirs = jars.folder() / "kafka.jar"
    script(
        tmp_path / "bin",
        "mvn",
        DOWNLOAD + f'touch "$out/kafka.jar"; mkdir -p "{theirs.parent}"; touch -d 2001-01-01 "{theirs}"',
    )
    assert jars.resolve() == theirs.parent
    assert theirs.stat().st_mtime < 1_000_000_000
    assert cached(tmp_path) == [jars.folder().name]
