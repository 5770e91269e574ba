"""`devstack/setup.sh` makes a whole .venv whatever pip and Python variables the caller's environment has.

Method: the script in a small project without dependencies, whose build backend is a file of its own, so that nothing is
downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "devstack" / "setup.sh"
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import zipfile
from pathlib import Path

def build_editable(directory, config_settings=None, metadata_directory=None):
    name = "small-1-py3-none-any.whl"
    with zipfile.ZipFile(Path(directory) / name, "w") as wheel:
        wheel.writestr("small.pth", str(Path.cwd()))
        wheel.writestr("small-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\n")
        wheel.writestr("small-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("small-1.dist-info/RECORD", "")
    return name
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    (made / "devstack").mkdir(parents=True)
    shutil.copy(SCRIPT, made / "devstack")
    (made / "requirements-dev.lock").touch()
    (made / "pyproject.toml").write_text(PYPROJECT)
    (made / "backend.py").write_text(BACKEND)
    (made / "small.py").touch()
    return made


def test_variables_of_pip_and_python_do_not_lead_outside_the_environment(project: Path, tmp_path: Path) -> None:
    # A foreign package that would hide pip's own.
    foreign = tmp_path / "foreign"
    (foreign / "pip").mkdir(parents=True)
    (foreign / "pip" / "__init__.py").write_text("raise SystemExit('the wrong pip')")
    home = tmp_path / "home"
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".config" / "pip" / "pip.conf").write_text("[install]\nuser = true\n")
    outside = tmp_path / "outside"
    constraint = tmp_path / "constraint.txt"
    constraint.write_text("small==2\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    environment = {
        **inherited,
        "PYTHON": sys.executable,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "PIP_USER": "1",
        "PIP_TARGET": str(outside / "target"),
        "PIP_PREFIX": str(outside / "prefix"),
        "PIP_ROOT": str(outside / "root"),
        "PIP_CONSTRAINT": str(constraint),
        "PIP_REQUIRE_HASHES": "1",
        "PIP_DRY_RUN": "1",
        "PYTHONPATH": str(foreign),
        "PYTHONHOME": str(foreign),
    }
    done = subprocess.run(
        ["/bin/sh", str(project / "devstack" / "setup.sh")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (project / ".venv" / ".done").exists()
    asked = [str(project / ".venv" / "bin" / "python"), "-c", "import small; print(small.__file__)"]
    found = subprocess.run(asked, env=inherited, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(project / "small.py")
    assert not outside.exists()
    assert not (home / ".local").exists()
