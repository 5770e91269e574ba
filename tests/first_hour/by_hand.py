"""Steps by hand beside a running `make up`: README's example, twice; its operation; the clients in other languages."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.contract.test_examples import LANGUAGES
from tests.first_hour.checkout import StepFailed, StepSkipped
from tests.first_hour.documents import section
from tests.first_hour.hour import Hour, Step

HEADING = "The API by example"
TESTS = "In your tests"
#: The group that README's order opens: the service derives it from the customer and the request id.
GROUP = "groups/510a5209-1010-5cce-9eac-8b7fb123d3af"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
#: Words of README that stand for something of the reader's.
_PLACEHOLDERS = ("…", "file.csv")


def readme(hour: Hour) -> Path:
    """The clone's README."""
    return hour.checkout.root / "README.md"


def second_terminal(hour: Hour) -> str:
    """README's commands for a second terminal."""
    first, second = section(readme(hour), HEADING, "sh")[:2]
    if not first.startswith("make up") or ".run/stack.env" not in second:
        raise StepFailed(f"README does not begin with make up and its file:\n{first}{second}")
    return second


def example(hour: Hour) -> None:
    """README's Python program and its calls by hand, each twice."""
    stack = hour.stack()
    begin, commands = second_terminal(hour), section(readme(hour), HEADING, "sh")[2:]
    (program,) = section(readme(hour), HEADING, "python")
    file = hour.place / "example.py"
    file.write_text(program, encoding="utf-8")
    for _ in range(2):
        shown = hour.checkout.shell(f"{begin}python '{file}'\n").expect(0)
        if shown.output.splitlines()[-1] != "ORDER_STATE_SETTLED 7900":
            raise StepFailed(f"README's program printed:\n{shown.output}")
        for command, text in zip(commands, ("campaigns/mug", f'"group": "{GROUP}"', '"settled": true'), strict=True):
            hour.checkout.shell(begin + command).expect(0, text)
    run_printed_example(hour, stack.example)


def run_printed_example(hour: Hour, command: str) -> None:
    """Runs what `make up` printed; grpcurl is built if Go is there. Raises StepSkipped without both."""
    path = grpcurl(hour)
    hour.checkout.shell(command, PATH=path).expect(0, '"name": "campaigns/mug-')


def grpcurl(hour: Hour) -> str:
    """PATH with grpcurl."""
    path = hour.checkout.environment()["PATH"]
    if shutil.which("grpcurl") is not None:
        return path
    programs = hour.place / "bin"
    if not (programs / "grpcurl").exists():
        if shutil.which("go") is None:
            raise StepSkipped("neither grpcurl nor Go is on PATH: the printed example was not run")
        environment = hour.checkout.environment(GOBIN=str(programs))
        hour.checkout.run("go", "install", GRPCURL, cwd=hour.place, environment=environment).expect(0)
    return f"{programs}:{path}"


def operate(hour: Hour) -> None:
    """README's commands that inspect a running system, those without placeholders."""
    hour.stack()
    begin = second_terminal(hour)
    lines = "".join(section(readme(hour), "Inspect", "sh")).splitlines()
    for line in lines:
        command = line.partition("#")[0].strip()
        if any(one in command for one in _PLACEHOLDERS):
            continue
        # `tail` follows the topic until Ctrl-C.
        following = command.startswith("groupbuy-ops tail")
        script = f"timeout -s INT 8 {command} || [ $? = 124 ]\n" if following else f"{command}\n"
        hour.checkout.shell(f"{begin}cd '{hour.place}'\n{_from_elsewhere(hour)}{script}").expect(0)


def _from_elsewhere(hour: Hour) -> str:
    """Commands that write files run in another directory, where the record of the stack is found by a link."""
    return f"ln -sfn '{hour.checkout.root / '.run'}' .run\n"


def other_language(name: str) -> Step:
    """The example client of a language, built as its contract test builds it, beside a running `make up`."""
    language = LANGUAGES[name]

    def run(hour: Hour) -> None:
        missing = [tool for tool in language.tools if shutil.which(tool) is None]
        if missing:
            raise StepSkipped(f"{' and '.join(missing)} not on PATH: the {name} example was not run")
        hour.stack()
        folder = hour.checkout.root / "examples" / name
        begin = second_terminal(hour)
        for command in (*language.build, language.run):
            ended = hour.checkout.shell(f"{begin}cd '{folder}'\n{' '.join(command)}\n", within_s=540)
            ended.expect(0)
        ended.expect(0, "bob joined: ", "reason INVALID_FIELDS", "SETTLED 7900")

    return Step(f"example-{name}", f"examples/{name} beside make up", 600, run)


def test_snippet(hour: Hour) -> None:
    """README's test in a project of its own, whose packages have our names."""
    project = hour.place / "project"
    for package in ("services", "deploy", "ops"):
        (project / package).mkdir(parents=True, exist_ok=True)
        (project / package / "__init__.py").write_text("raise RuntimeError('mine')\n")
    (program,) = section(readme(hour), TESTS, "python")
    (project / "test_checkout.py").write_text(program, encoding="utf-8")
    python = str(hour.checkout.bin / "python")
    hour.checkout.run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project, within_s=180).expect(
        0, "1 passed"
    )


STEPS = (
    Step("example", "README: the API by example, twice, and the example that make up prints", 240, example),
    Step("operate", "README: inspect the running system", 240, operate),
    *(other_language(name) for name in LANGUAGES),
    Step("test-snippet", "README: the test, in a project with packages of our names", 200, test_snippet),
)
