"""A project of another repository: the wheels in a fresh environment, packages with our names, and a pytest of its own.

Without network: the wheels' dependencies are those of the environment that runs these tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
#: Packages of the runtime. The foreign project has packages of the same names.
GENERIC = (
    "services",
    "ops",
    "deploy",
    "devstack",
    "eventlog",
    "chassis",
    "shared_kernel",
    "simulators",
    "bench",
    "buf",
)

#: Starts two tiny commands in place of the services, on a broker that is a socket.
TINY_STACK = """
import sys
from pathlib import Path
from groupbuy_settlement.__main__ import enter_runtime
enter_runtime()
from devstack.control import serve, stack_calls
from devstack.stack import Stack
from fakes import FOR_EVER, broker, plan

with broker() as kafka:
    orders = "print('the last words of orders', flush=True); " + FOR_EVER
    stack = Stack(Path(sys.argv[1]), kafka=kafka, plan=plan(orders=orders, groups=FOR_EVER))
    serve(stack_calls(stack), stack.stop, requests=sys.stdin, output=sys.stdout)
"""
CONFTEST = """
import sys
from pathlib import Path
from groupbuy_testing import control
control.STACK = (sys.executable, str(Path(__file__).parent / "tiny" / "tiny_stack.py"))
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python that the project's commands run with."""

    bin: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.bin / "python")

    def run(
        self, *command: str, cwd: Path, timeout_s: float = 100, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command without this repository's variables; Java is found, Kafka is not."""
        bare = {name: value for name, value in os.environ.items() if name not in {"KAFKA", "JAVA_HOME", "PYTHONPATH"}}
        return subprocess.run(
            command,
            cwd=cwd,
            env={**bare, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def pytest(self, project: Path, *arguments: str, timeout_s: float = 100, **environment: str) -> str:
        """Runs the project's tests. Returns all output."""
        options = ("-p", "no:cacheprovider", "--no-header", "-v")
        done = self.run(
            self.python, "-m", "pytest", *options, *arguments, cwd=project, timeout_s=timeout_s, **environment
        )
        return done.stdout + done.stderr


#: The environment that runs these tests.
OURS = Environment(Path(sys.executable).parent)


def install(wheels: Iterable[Path], into: Path) -> Environment:
    """A fresh environment with the wheels; other distributions come from our environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(into)], check=True)
    fresh = Environment(into / "bin")
    pip = [sys.executable, "-m", "pip", "--python", fresh.python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", *map(str, wheels)], check=True)
    (site,) = into.glob("lib/python*/site-packages")
    # Only the directory: .pth files in it, such as the one of our editable install, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return fresh


def make_project(directory: Path, tests: str, *, packages: Sequence[str] = (), tiny: bool = True) -> Path:
    """Writes a project with one file of tests. With `tiny` the plugin starts TINY_STACK in place of the real one."""
    for name in packages:
        (directory / name).mkdir(parents=True)
        (directory / name / "__init__.py").write_text("MINE = True\n")
    if tiny:
        (directory / "tiny").mkdir(parents=True)
        (directory / "tiny" / "tiny_stack.py").write_text(TINY_STACK)
        shutil.copy(ROOT / "tests" / "unit" / "devstack" / "fakes.py", directory / "tiny")
        (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_theirs.py").write_text(tests)
    return directory
