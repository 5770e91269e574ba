"""Java and Maven: found, or requested in one sentence. Scripts replace both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.errors import MissingTool
from devstack.kafka import tools

ROOT = Path(__file__).resolve().parents[3]


def script(directory: Path, name: str, text: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def java(directory: Path, version: str) -> Path:
    return script(directory, "java", f"echo 'openjdk version \"{version}\" 2025' >&2")


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.parametrize("version", ["17.0.15", "21", "25-ea"])
def test_a_new_enough_java_is_used(tmp_path: Path, version: str) -> None:
    path = java(tmp_path / "bin", version)
    assert tools.java(with_maven=False) == str(path)


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.22", "16"])
def test_a_java_that_is_too_old_is_reported_with_its_version(tmp_path: Path, version: str) -> None:
    java(tmp_path / "bin", version)
    number = version.removeprefix("1.").split(".")[0]
    with pytest.raises(MissingTool, match=f"needs Java 17 or newer \\(.*/java is {number}\\): install"):
        tools.java(with_maven=False)


def test_java_home_takes_precedence_over_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java(tmp_path / "bin", "11")
    path = java(tmp_path / "home" / "bin", "17")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert tools.java(with_maven=False) == str(path)


@pytest.mark.parametrize("wrong", ["nowhere", "file", "old", "broken"])
def test_a_wrong_java_home_beside_a_good_java_does_no_harm(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = java(tmp_path / "bin", "21")
    (tmp_path / "file").touch()
    java(tmp_path / "old" / "bin", "11")
    script(tmp_path / "broken" / "bin", "java", "exit 1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / wrong))
    assert tools.java(with_maven=False) == str(good)
    # Maven's script would use JAVA_HOME and fail.
    assert tools.maven_environment() == {"JAVA_HOME": ""}


def test_a_good_java_home_is_passed_to_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java(tmp_path / "home" / "bin", "17")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert tools.maven_environment() == {}


def test_a_java_that_prints_no_version_counts_as_missing(tmp_path: Path) -> None:
    script(tmp_path / "bin", "java", "exit 1")
    with pytest.raises(MissingTool, match="needs Java 17 or newer: install"):
        tools.java(with_maven=False)


def test_maven_is_required_only_for_a_download(tmp_path: Path) -> None:
    java(tmp_path / "bin", "17")
    tools.java(with_maven=False)
    with pytest.raises(MissingTool, match="needs Maven: install"):
        tools.java(with_maven=True)


def test_all_missing_tools_are_reported_in_one_sentence() -> None:
    with pytest.raises(MissingTool) as error:
        tools.java(with_maven=True)
    assert str(error.value).startswith("A local Kafka needs Java 17 or newer and Maven: install it")
    assert str(error.value).endswith("or set KAFKA=host:port to use a broker of your own.")


#: Arguments of each command: the tests run beside others, and perhaps beside a stack with the fixed ports.
ARGUMENTS: dict[str, list[str]] = {"devstack.kafka": [], "devstack": ["--ports", "free"]}


@pytest.mark.parametrize("module", list(ARGUMENTS))
def test_the_commands_exit_with_2_and_that_sentence(tmp_path: Path, module: str) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in {"KAFKA", "JAVA_HOME"}}
    environment = {**bare, "PATH": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = subprocess.run(
        [sys.executable, "-m", module, *ARGUMENTS[module]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("A local Kafka needs Java 17 or newer and Maven: install it")
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / ".run" / "data").exists()


@pytest.mark.parametrize("home", [None, "", "/dev/null", "/proc"])
@pytest.mark.parametrize("module", list(ARGUMENTS))
def test_without_a_usable_home_a_sentence_names_the_variable_to_set(
    home: str | None, module: str, tmp_path: Path
) -> None:
    """A user without an entry among the users has no home either: the test hides the entry."""
    java(tmp_path / "bin", "17")
    script(tmp_path / "bin", "mvn", "exit 1")
    code = (
        "import pwd, runpy, sys\n"
        "def hidden(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = hidden\n"
        f"sys.argv = {['it', *ARGUMENTS[module]]!r}\nrunpy.run_module({module!r}, run_name='__main__')\n"
    )
    bare = {name: value for name, value in os.environ.items() if name not in {"KAFKA", "HOME", "XDG_CACHE_HOME"}}
    environment = {**bare, **({} if home is None else {"HOME": home}), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert "set XDG_CACHE_HOME to a directory that you may write, or KAFKA=host:port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_invalid_kafka_address_exits_with_2(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "devstack", *ARGUMENTS["devstack"]],
        cwd=tmp_path,
        env={**os.environ, "KAFKA": "kafka"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "KAFKA must be host:port" in ended.stderr
