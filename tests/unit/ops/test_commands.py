"""Every command of the command line has one style of help, --json, an example that parses, and known exit codes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from docs.commands_page import Help, commands
from ops import commands as command_line
from ops import completion
from ops.broker import skip
from ops.errors import CANNOT_RUN, DOES_NOT_HOLD, INTERRUPTED, INVARIANT, MEANINGS, OK
from ops.main import PROGRAM, main

COMMANDS = dict(commands())
ROOT = Path(__file__).parents[3]
OPS = ROOT / "ops"
#: The modules that write to the streams.
LAYER = OPS / "terminal"
_WRITES = re.compile(r"(?<![.\w])(?<!def )print\(|typer\.echo|sys\.(?:stdout|stderr)\b|Console\(")


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 21
    assert f"{PROGRAM} topics create" in COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_its_paragraphs(name: str) -> None:
    found = Help.parse(COMMANDS[name].help)
    assert found.summary.endswith(".")
    assert len(found.summary) <= 120
    for sentence in (found.reads, found.changes, found.exit_codes, *found.notes):
        assert sentence.endswith(".")
    codes = [int(one.split()[0]) for one in re.split(r"[,;] (?=\d+ )", found.exit_codes)]
    assert codes[0] == OK
    assert CANNOT_RUN in codes
    assert set(codes) <= set(MEANINGS)
    assert codes == sorted(codes)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_a_call_of_the_command(name: str) -> None:
    words = shlex.split(Help.parse(COMMANDS[name].help).example)
    assert " ".join(words).startswith(name)
    arguments = words[len(name.split()) :]
    with COMMANDS[name].make_context(name, arguments):
        pass


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_is_described_and_json_is_one_of_them(name: str) -> None:
    parameters = COMMANDS[name].params
    assert [one.name for one in parameters if not one.help] == []
    (json,) = [one for one in parameters if "--json" in one.opts]
    assert json.help == "Print JSON alone, one object a line. Notes go to standard error."


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("name", [PROGRAM, *COMMANDS])
def test_help_exits_with_0(name: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split()[1:], option]) == OK
    printed = capsys.readouterr()
    assert "Usage" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_and_an_unreachable_broker_exit_with_2(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = name.split()[1:]
    assert main([*path, "--nope"]) == CANNOT_RUN
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{PROGRAM}: ")
    assert printed.err.count("\n") == 1
    for variable in ("KAFKA", "PROVIDER"):
        monkeypatch.setenv(variable, "nowhere")
    arguments = shlex.split(Help.parse(COMMANDS[name].help).example)[len(path) + 1 :]
    if any("--kafka" in one.opts for one in COMMANDS[name].params) and "--kafka" not in arguments:
        assert main([*path, *arguments, "--json"]) == CANNOT_RUN
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "'nowhere'" in printed.err


def fails_with(error: BaseException) -> int:
    """The exit code of a command that raises the error."""
    app = typer.Typer()

    @app.command()
    def run() -> None:
        """Raises."""
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "app", app)
        return main([])


def test_an_error_has_the_exit_code_of_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    from google.protobuf.message import DecodeError

    from eventlog.core.errors import InvariantViolation
    from ops.errors import OpsError, cannot_run

    kinds: list[tuple[BaseException, int, str]] = [
        (OpsError("differs"), DOES_NOT_HOLD, "groupbuy-ops: differs\n"),
        (cannot_run("no such thing", ["one", "two"]), CANNOT_RUN, "groupbuy-ops: no such thing\none\ntwo\n"),
        (OSError(28, "No space left on device"), CANNOT_RUN, "can't read or write: No space left on device"),
        (FileNotFoundError(2, "No such file", "x.csv"), CANNOT_RUN, "groupbuy-ops: x.csv: No such file\n"),
        (DecodeError("bad"), CANNOT_RUN, "a record can't be decoded (bad)"),
        (InvariantViolation("two decisions"), INVARIANT, "an invariant does not hold: two decisions"),
        (KeyError("gone"), INVARIANT, "a defect ended the command:"),
        (KeyboardInterrupt(), INTERRUPTED, ""),
        (typer.Exit(DOES_NOT_HOLD), DOES_NOT_HOLD, ""),
    ]
    for error, code, said in kinds:
        assert fails_with(error) == code, error
        printed = capsys.readouterr()
        assert printed.out == ""
        assert said in printed.err
        assert ("Traceback" in printed.err) == isinstance(error, KeyError)


def test_only_the_output_layer_writes_to_the_streams() -> None:
    found = {
        f"{path.relative_to(OPS)}: {line.strip()}"
        for path in OPS.rglob("*.py")
        if LAYER not in path.parents
        for line in path.read_text(encoding="utf-8").splitlines()
        if _WRITES.search(line)
    }
    # The demo paints a live view, on the terminal that the console has; main flushes at the end.
    assert {one for one in found if not one.startswith(("demo/", "main.py:"))} == set()


def test_completion_offers_what_the_commands_take() -> None:
    assert set(completion.skippable("")) == set(skip.SKIPPABLE)
    assert "groups.group.v1" in completion.topics("groups.g")
    assert completion.topics("nothing") == []
    assert all(name.endswith(".dlq") for name in completion.dead_letter_topics(""))


def test_the_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == OK
    printed = capsys.readouterr().out.strip()
    assert f'version = "{printed}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
