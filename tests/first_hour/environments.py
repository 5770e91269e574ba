"""Steps in odd environments: each gives a running system, or one sentence that says what to do."""

from __future__ import annotations

import os
import shutil

from devstack.kafka import jars
from tests.first_hour.by_hand import HEADING, readme, second_terminal
from tests.first_hour.checkout import Checkout, Foreground, StepFailed, StepSkipped
from tests.first_hour.documents import section
from tests.first_hour.hour import Hour, Step

#: A user id without an entry among the users.
_UID = 123456
#: Where programs are that every user may run.
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_SET_CACHE = "set XDG_CACHE_HOME to a directory that you may write, or KAFKA=host:port"
#: Everything at once that must do no harm. The proxy is a port where nobody listens.
_ODD = {
    "LANG": "C",
    "LC_ALL": "C",
    "PYTHONIOENCODING": "ascii",
    "TERM": "dumb",
    "COLUMNS": "80",
    "JAVA_HOME": "/nonexistent/java",
    "SEED": "not a number",
    "PROVIDER": "aws",
    "ORDERS": "many",
    "PORTS": "80",
    "KEEP": "1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "grpc_proxy": "http://127.0.0.1:9",
    "PIP_USER": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TZ": "Asia/Kathmandu",
}


def odd(hour: Hour) -> None:
    """All of _ODD and umask 077 at once: README's program settles an order, and the audit reads it."""
    hour.end_stack()
    environment = hour.checkout.environment(**_ODD)
    old = os.umask(0o077)
    try:
        stack = Foreground(hour.checkout, environment=environment)
    finally:
        os.umask(old)
    with stack:
        stack.wait_ready()
        if "not taken from the environment: KEEP ORDERS PORTS PROVIDER SEED" not in stack.output:
            raise StepFailed(f"nothing says that variables are ignored:\n{stack.output}")
        file = hour.place / "odd.py"
        file.write_text(section(readme(hour), HEADING, "python")[0], encoding="utf-8")
        begin = second_terminal(hour)
        for command, text in (
            (f"python '{file}'", "ORDER_STATE_SETTLED 7900"),
            ("groupbuy-ops audit --without-provider", ""),
            ("unset PROVIDER; groupbuy-ops audit", ""),
        ):
            script = ("bash", "-euc", f"{begin}{command}")
            hour.checkout.run(*script, environment=environment, within_s=60).expect(0, text)
        stack.interrupt()


def no_java(hour: Hour) -> None:
    """Without Java and Maven: one sentence with what to install."""
    hour.end_stack()
    programs = hour.place / "without java"
    programs.mkdir(exist_ok=True)
    for name in ("sh", "bash", "make", "env", "awk", "sed"):
        link, found = programs / name, shutil.which(name)
        if found and not link.exists():
            link.symlink_to(found)
    cache = str(hour.place / "empty cache")
    for variables in ({}, {"JAVA_HOME": "/nonexistent"}):
        ended = hour.checkout.make("up", within_s=60, PATH=str(programs), XDG_CACHE_HOME=cache, **variables)
        ended.expect(2, "A local Kafka needs Java 17 or newer and Maven: install it", "or set KAFKA=host:port")


def no_home(hour: Hour) -> None:
    """A home that can't hold a cache: one sentence with the variable to set."""
    hour.end_stack()
    for home in ("", "/proc", "/dev/null"):
        hour.checkout.make("up", within_s=60, HOME=home).expect(2, _SET_CACHE)


def stranger(hour: Hour) -> None:
    """A user without an entry and without a home, in a clone of its own: sentences, then a running system."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise StepSkipped("only root can become another user: the random user id was not tried")
    hour.end_stack()
    inherited = {name: value for name, value in hour.checkout.environment().items() if _registry(name)}
    variables = [f"{name}={value}" for name, value in {**inherited, "PATH": _SYSTEM_PATH}.items()]
    become = ("setpriv", f"--reuid={_UID}", "--clear-groups", "env", "-i", *variables)
    newer = "import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 11))"
    if hour.checkout.run(*become, "python3", "-c", newer, cwd=hour.place).code:
        raise StepSkipped(f"no Python 3.11 with venv in {_SYSTEM_PATH}: the random user id was not tried")
    hour.checkout.run(*become, "sh", "devstack/setup.sh", within_s=60).expect(2, "can't be written by this user")

    own = Checkout(hour.place / "stranger" / "groupbuy")
    own.deadline = hour.checkout.deadline
    own.root.parent.mkdir(exist_ok=True)
    hour.clone(own.root)
    cache = own.root.parent / "cache"
    jars.resolve()
    shutil.copytree(jars.folder(), cache / "groupbuy" / jars.folder().name)
    for path in (own.root.parent, *own.root.parent.rglob("*")):
        os.chown(path, _UID, -1, follow_symlinks=False)
    own.run(*become, "make", ".venv/.done").expect(0)
    elsewhere = f"UP=--run-dir '{hour.place / 'run'}'"
    own.run(*become, "make", "up", elsewhere, within_s=60).expect(2, "Permission denied", "--run-dir DIRECTORY")
    own.run(*become, "make", "up", within_s=60).expect(2, _SET_CACHE)
    with Foreground(own, prefix=(*become, f"XDG_CACHE_HOME={cache}")) as stack:
        stack.wait_ready()
        stack.interrupt()


def _registry(name: str) -> bool:
    """Whether a variable says from where, and how, packages are downloaded."""
    return name.startswith(("PIP_", "SSL_")) or name.endswith(("_CA_BUNDLE", "_proxy", "_PROXY"))


STEPS = (
    Step("odd", "umask 077, LANG=C, TERM=dumb, 80 columns, JAVA_HOME, proxies, foreign variables", 240, odd),
    Step("no-java", "make up without Java and Maven", 120, no_java),
    Step("no-home", "make up with HOME empty or unwritable", 120, no_home),
    Step("stranger", "make and make up as a random user id without a home", 500, stranger),
)
