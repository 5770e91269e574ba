"""The command line as a process: any encoding, a closed pipe or terminal, a full disk, Ctrl-C. No traceback."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ops.errors import CANNOT_RUN, INTERRUPTED, OK

COMMAND = (sys.executable, "-m", "ops.main")
TIMEOUT_S = 60


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        (*COMMAND, *arguments), capture_output=True, timeout=TIMEOUT_S, check=False, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "cp1252", "utf-8"])
@pytest.mark.parametrize("arguments", [("topics", "list"), ("--help",), ("show", "group", "拼团 ¥")])
def test_any_encoding(encoding: str, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, PYTHONIOENCODING=encoding)
    assert done.returncode == (CANNOT_RUN if "show" in arguments else OK), done.stderr
    output = done.stdout.decode(encoding) + done.stderr.decode(encoding)
    assert "Traceback" not in output
    assert output.strip()


def test_json_is_valid_in_any_encoding() -> None:
    done = run("topics", "list", "--json", PYTHONIOENCODING="ascii")
    assert {json.loads(line)["writer"] for line in done.stdout.splitlines()} > {"orders", "groups", "payments"}


@pytest.mark.parametrize("arguments", [("topics", "list"), ("topics", "list", "--json"), ("--version",), ("-h",)])
def test_a_full_disk_is_one_sentence(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            (*COMMAND, *arguments), stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False
        )
    assert done.returncode == CANNOT_RUN
    assert done.stderr == b"groupbuy-ops: can't read or write: No space left on device\n"


@pytest.mark.parametrize("arguments", [("topics", "list"), ("topics", "list", "--json"), ("acls", "print"), ("-h",)])
def test_a_closed_pipe_is_no_error(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run((*COMMAND, *arguments), stdout=writer, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (OK, b"")


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_streams_that_are_closed_at_the_start(closed: tuple[int, ...]) -> None:
    closing = " ".join(f"{number}>&-" for number in closed)
    command = f"exec {sys.executable} -m ops.main topics list {closing}"
    done = subprocess.run(("sh", "-c", command), capture_output=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == OK
    assert done.stderr == b""


def test_a_terminal_that_is_gone_is_no_traceback(tmp_path: Path) -> None:
    # Its own session, so the terminal's end sends no SIGHUP: the write itself fails.
    controller, terminal = pty.openpty()
    os.close(controller)
    with (tmp_path / "stderr").open("w+b") as error:
        done = subprocess.run(
            (*COMMAND, "topics", "list"),
            stdout=terminal,
            stderr=error,
            timeout=TIMEOUT_S,
            check=False,
            start_new_session=True,
        )
        os.close(terminal)
        error.seek(0)
        said = error.read()
    assert done.returncode == CANNOT_RUN
    assert said == b"groupbuy-ops: can't read or write: Input/output error\n"


def test_ctrl_c_exits_with_130() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        with subprocess.Popen(
            (*COMMAND, "tail", "groups.group.v1", "--kafka", f"{host}:{port}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            silent.settimeout(TIMEOUT_S)
            peer, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            output, error = process.communicate(timeout=TIMEOUT_S)
            with suppress(OSError):
                peer.close()
    assert (process.returncode, output, error) == (INTERRUPTED, b"", b"")


def test_completion_knows_the_topics() -> None:
    typed = "groupbuy-ops tail groups."
    done = run(_GROUPBUY_OPS_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD="2")
    assert done.returncode == OK, done.stderr
    found = done.stdout.decode().split()
    assert {"groups.group.v1", "groups.inbox.v1"} <= set(found)
    assert all(name.startswith("groups.") for name in found)


@pytest.mark.parametrize("command", ["lag", "offsets recover"])
def test_completion_knows_the_consumer_groups(command: str) -> None:
    typed = f"groupbuy-ops {command} --group groupbuy.pay"
    done = run(_GROUPBUY_OPS_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(len(typed.split()) - 1))
    assert {"groupbuy.payments.decider", "groupbuy.payments.effects"} <= set(done.stdout.decode().split())


def test_completion_knows_the_running_stack() -> None:
    typed = "groupbuy-ops audit --kafka "
    done = run(_GROUPBUY_OPS_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD="3", KAFKA="127.0.0.1:9")
    assert done.stdout.decode().split() == ["127.0.0.1:9"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown(shell: str) -> None:
    done = run("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == OK, done.stderr
    assert b"_GROUPBUY_OPS_COMPLETE" in done.stdout
