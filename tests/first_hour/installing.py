"""Steps before anything runs: the clone, its .venv, and arguments that are wrong."""

from __future__ import annotations

import shutil

from tests.first_hour.checkout import StepFailed
from tests.first_hour.documents import section
from tests.first_hour.hour import Hour, Step

TYPE = "Type `make up KEEP=1`"


def clone_and_install(hour: Hour) -> None:
    """Clones, lists the commands, interrupts the making of .venv, and makes it although pip is told otherwise."""
    if not hour.checkout.root.exists():
        hour.clone(hour.checkout.root)
    hour.checkout.make().expect(0, "make demo", "make first-hour")
    if not hour.checkout.bin.exists():
        # To the whole process group, as a terminal does.
        hour.checkout.run("timeout", "-s", "INT", "5", "make", ".venv/.done").expect(124)
        if hour.checkout.bin.exists():
            raise StepFailed("Ctrl-C left half a .venv")
    hour.install(PIP_USER="1", PIP_TARGET=str(hour.place / "elsewhere"), PYTHONPATH=str(hour.place))
    hour.checkout.run(str(hour.checkout.bin / "groupbuy-ops"), "--help").expect(0)


def autocrlf(hour: Hour) -> None:
    """Clones as Git for Windows is set up by default: scripts still run, and nothing counts as changed."""
    into = hour.place / "autocrlf"
    hour.clone(into, "-c", "core.autocrlf=true")
    with_returns = [
        str(path.relative_to(into))
        for path in into.rglob("*")
        if path.suffix in {".sh", ".py", ".proto", ".lock", ".toml"} and b"\r\n" in path.read_bytes()
    ]
    if with_returns:
        raise StepFailed(f"carriage returns in {with_returns[:3]}")
    hour.checkout.run("git", "-c", "core.autocrlf=true", "diff", "--exit-code", cwd=into).expect(0)
    wrong = hour.checkout.environment(PYTHON="/nonexistent/python")
    ended = hour.checkout.run("sh", "devstack/setup.sh", cwd=into, environment=wrong)
    ended.expect(2, "Python 3.11 or newer is needed", "not found")
    shutil.rmtree(into)


def wrong_arguments(hour: Hour) -> None:
    """Each wrong argument ends soon with what to type."""
    checkout = hour.checkout
    for arguments, text in (
        (("up", "--keep"), TYPE),
        (("up", "--", "--keep"), TYPE),
        (("up", "UP=--nope"), "unrecognized arguments: --nope"),
        (("up", "PORTS=abc"), "is neither `free`, nor a port, nor name=port"),
        (("up", "PORTS=65530"), "the first port must be 1 to"),
        (("up", "PARTITIONS=0"), "--partitions must be 1 or greater"),
        (("up", "POLICY=nowhere.toml", "SECURED=1"), "nowhere.toml can't be read"),
        (("up", "KAFKA=nonsense"), "KAFKA must be host:port"),
        (("up", "KAFKA=127.0.0.1:1"), "no broker answers at KAFKA=127.0.0.1:1"),
        (("certificates", "ARGS=nobody"), "unknown identity: nobody"),
    ):
        checkout.make(*arguments, within_s=60).expect(2, text)
    checkout.make("up", within_s=60, GROUPBUY_ORDERS_LISTN="x", KAFKA="127.0.0.1:1").expect(2)
    for words in ("nonsense", "audit --nope", "tail"):
        ended = checkout.run(str(checkout.bin / "groupbuy-ops"), *words.split(), within_s=60)
        if ended.code == 0:
            raise StepFailed(f"{ended.command} ended with 0:\n{ended.output}")
        ended.expect(ended.code)


def demo(hour: Hour) -> None:
    """The first command of README: the demo, up to its audit."""
    command = section(hour.checkout.root / "README.md", "Two commands", "sh")[0].splitlines()[0]
    if not command.startswith("make demo"):
        raise StepFailed(f"README's first command is {command!r}")
    hour.checkout.shell(command, within_s=400, TERM="dumb").expect(0, "Zero differences")


STEPS = (
    Step(
        "install",
        "clone, list the commands, make .venv: Ctrl-C, then PIP_USER=1",
        700,
        clone_and_install,
        installed=False,
    ),
    Step("autocrlf", "clone with core.autocrlf=true", 60, autocrlf, installed=False),
    Step("wrong-arguments", "wrong arguments of make and groupbuy-ops", 240, wrong_arguments),
    Step("demo", "README: make demo", 420, demo),
)
