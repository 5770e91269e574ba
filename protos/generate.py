"""Generates gen/ from protos/: messages, gRPC stubs and their types. `--check` only says whether gen/ has drifted.

Must never leave gen/ half written: the new tree is made beside it and then takes its place.
"""

from __future__ import annotations

import filecmp
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"


def generate(into: Path) -> None:
    """Writes the generated packages below `into`. Raises SystemExit when protoc refuses a file."""
    # google/ is there for other tools: Python has these messages from googleapis-common-protos.
    files = [str(path) for path in sorted(PROTOS.rglob("*.proto")) if path.relative_to(PROTOS).parts[0] != "google"]
    services = [name for name in files if "service " in Path(name).read_text(encoding="utf-8")]
    include = [f"-I{PROTOS}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    typed = [f"--mypy_out=quiet:{into}", f"--python_out={into}"]
    if protoc.main(["protoc", *include, *typed, *files]):
        raise SystemExit("protoc failed on the messages")
    grpc = [f"--grpc_python_out={into}", f"--mypy_grpc_out=quiet:{into}"]
    ours = [name for name in services if "/buf/" not in name]
    if protoc.main(["protoc", *include, *grpc, *ours]):
        raise SystemExit("protoc failed on the services")
    for folder in {path.parent for path in into.rglob("*_pb2.py")}:
        for package in (folder, *folder.parents):
            if package == into:
                break
            (package / "__init__.py").touch()
            (package / "py.typed").touch()


def differences(left: Path, right: Path) -> list[str]:
    """Relative paths of all files that are not the same in both trees."""
    names = {
        str(path.relative_to(tree))
        for tree in (left, right)
        for path in tree.rglob("*")
        if path.is_file() and path.suffix in {".py", ".pyi"}
    }
    return sorted(filecmp.cmpfiles(left, right, names, shallow=False)[1] + filecmp.cmpfiles(left, right, names)[2])


def main() -> None:
    """Generates, or with --check compares; exits 1 at a difference."""
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".gen-") as name:
        fresh = Path(name)
        generate(fresh)
        if "--check" in sys.argv[1:]:
            drifted = differences(fresh, GEN)
            if drifted:
                raise SystemExit("gen/ has drifted from protos/, run `make proto`: " + ", ".join(drifted))
            return
        shutil.rmtree(GEN, ignore_errors=True)
        shutil.copytree(fresh, GEN)


if __name__ == "__main__":
    main()
