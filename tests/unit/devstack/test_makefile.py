"""`make up`: its variables reach the program, and an option that make would take for itself is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
UP = ".venv/bin/python -m devstack"
#: Prints the environment that a recipe gets.
SHOW = "include Makefile\nshow:\n\t@env\n"


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", "-o", ".venv/.done", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**bare, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


def planned(*arguments: str, **environment: str) -> str:
    """The command that make would run, with single spaces."""
    done = make("-n", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    assert environment or not done.stderr
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), ""),
        (("KEEP=1",), " --keep"),
        (("KEEP=0", "SECURED=no"), ""),
        (("KEEP=1", "SECURED=1", "PORTS=free"), " --keep --secured --ports 'free'"),
        (("PARTITIONS=8", "POLICY=my.toml", "SECURED=1"), " --secured --partitions '8' --policy 'my.toml'"),
        (("UP=--keep --ports free",), " --keep --ports free"),
    ],
)
def test_variables_reach_the_program(arguments: tuple[str, ...], options: str) -> None:
    assert planned("up", *arguments) == UP + options


@pytest.mark.parametrize(
    "arguments", [("up", "--keep"), ("--keep", "up"), ("up", "--", "--keep"), ("up", "-k", "KEEP=1")]
)
def test_an_option_of_up_that_make_would_swallow_ends_with_what_to_type(arguments: tuple[str, ...]) -> None:
    done = make(*arguments)
    assert done.returncode == 2
    assert "Type `make up KEEP=1`" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("flags", [("-s",), ("-j2",), ("--no-print-directory",), ("-B",)])
def test_other_options_of_make_stay_allowed(flags: tuple[str, ...]) -> None:
    assert UP in planned("up", *flags)


def test_the_list_of_commands_fits_80_columns() -> None:
    lines = make("help").stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert any(line.startswith("  make first-hour ") for line in lines)


def test_variables_of_the_environment_are_not_taken_and_named() -> None:
    done = make("-n", "simulate", "demo", "up", SEED="abc", KEEP="1", ORDERS="x", PROVIDER="aws")
    assert "abc" not in done.stdout
    assert "--keep" not in done.stdout
    assert "not taken from the environment: KEEP ORDERS PROVIDER SEED. Type them behind make" in done.stderr


def test_programs_do_not_see_those_variables_unless_typed(tmp_path: Path) -> None:
    extended = tmp_path / "extended.mk"
    extended.write_text(SHOW)
    shown = make("-s", "-f", str(extended), "show", SEED="abc", KAFKA="h:1").stdout.splitlines()
    assert "KAFKA=h:1" in shown
    assert not [line for line in shown if line.startswith("SEED=")]
    assert "SEED=7" in make("-s", "-f", str(extended), "show", "SEED=7").stdout.splitlines()
