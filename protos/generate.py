"""Generates from protos/ what is committed: gen/ with messages, gRPC stubs and their types, and the descriptor set.

protos/groupbuy.binpb, made by buf, is the whole contract in one file: other languages generate from it, tools without
reflection read it, and every later state of protos/ is compared with it. A change that breaks those who call us or read
our logs is refused, here and by `--check`, which writes nothing; `--accept-breaking` takes it in, and the changed file
then shows it to the reviewer. Must never leave gen/ half written: the new tree is made beside it and then takes its
place.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"
DESCRIPTORS = PROTOS / "groupbuy.binpb"
#: The module that generated code imports in place of buf.validate.
VENDORED = '''"""buf.validate: the environment's if a distribution has one, else our copy.

One process can't register two versions of a .proto file.
"""

try:
    from buf.validate import validate_pb2
except ImportError:
    from groupbuy.vendored import validate_pb2

__all__ = ["validate_pb2"]
'''
#: buf's exit code for a contract that breaks.
BROKEN = 100


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
    _vendor(into)
    for folder in {path.parent for path in into.rglob("*_pb2.py")}:
        for package in (folder, *folder.parents):
            if package == into:
                break
            (package / "__init__.py").touch()
            (package / "py.typed").touch()


def _vendor(into: Path) -> None:
    """Moves buf/ into groupbuy/, so that an installed package does not take the name `buf`."""
    vendored = into / "groupbuy" / "vendored"
    vendored.mkdir()
    for path in (into / "buf" / "validate").iterdir():
        path.rename(vendored / path.name)
    shutil.rmtree(into / "buf")
    (vendored / "__init__.py").write_text(VENDORED, encoding="utf-8")
    for path in into.rglob("*_pb2.py"):
        text = path.read_text(encoding="utf-8")
        text = text.replace("from buf.validate import validate_pb2", "from groupbuy.vendored import validate_pb2")
        path.write_text(
            text.replace("'buf.validate.validate_pb2'", "'groupbuy.vendored.validate_pb2'"), encoding="utf-8"
        )


def differences(left: Path, right: Path) -> list[str]:
    """Relative paths of all files that are not the same in both trees."""
    names = {
        str(path.relative_to(tree))
        for tree in (left, right)
        for path in tree.rglob("*")
        if path.is_file() and path.suffix in {".py", ".pyi"}
    }
    return sorted(filecmp.cmpfiles(left, right, names, shallow=False)[1] + filecmp.cmpfiles(left, right, names)[2])


def breaking(protos: Path = PROTOS, against: Path = DESCRIPTORS) -> str:
    """The changes that break users of the contract `against`, one line each, in buf's words; empty for none."""
    done = _buf("breaking", str(protos), "--against", str(against))
    if done.returncode not in (0, BROKEN):
        raise SystemExit(f"buf could not compare the contract: {done.stderr.strip()}")
    return done.stdout.strip()


def describe(into: Path, protos: Path = PROTOS) -> None:
    """Writes the descriptor set, imports included. Our files have their comments, which reflection serves."""
    done = _buf("build", str(protos), "--as-file-descriptor-set", "-o", str(into))
    if done.returncode:
        raise SystemExit(f"buf could not build the descriptor set: {done.stderr.strip()}")
    files = _without_extensions(FileDescriptorSet).FromString(into.read_bytes())
    for file in files.file:
        if not file.name.startswith("groupbuy/"):
            file.ClearField("source_code_info")
            continue
        locations = file.source_code_info.location
        commented = [one for one in locations if one.leading_comments or one.trailing_comments]
        del locations[:]
        locations.extend(commented)
    into.write_bytes(files.SerializeToString(deterministic=True))


def _without_extensions(kind: type[Any]) -> Any:
    """A message class in a pool of its own: messages keep the bytes of extensions, whatever this process imported."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(kind.DESCRIPTOR.file.serialized_pb)
    return GetMessageClass(pool.FindMessageTypeByName(kind.DESCRIPTOR.full_name))


def _buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    buf = Path(sys.executable).with_name("buf")
    return subprocess.run([str(buf), *arguments], capture_output=True, text=True, check=False)


def main() -> None:
    """Generates, or with --check compares; exits 1 at a difference, and where the contract would break."""
    accepted = "--accept-breaking" in sys.argv[1:]
    broken = "" if accepted or not DESCRIPTORS.exists() else breaking()
    if broken:
        raise SystemExit(f"{broken}\nThis breaks the contract. If that is meant: `make proto BREAKING=1`.")
    with tempfile.TemporaryDirectory() as name:
        fresh, described = Path(name) / "gen", Path(name) / DESCRIPTORS.name
        fresh.mkdir()
        generate(fresh)
        describe(described)
        if "--check" in sys.argv[1:]:
            drifted = differences(fresh, GEN)
            if not DESCRIPTORS.exists() or described.read_bytes() != DESCRIPTORS.read_bytes():
                drifted.append(DESCRIPTORS.name)
            if drifted:
                raise SystemExit("drifted from protos/, run `make proto`: " + ", ".join(drifted))
            return
        shutil.rmtree(GEN, ignore_errors=True)
        shutil.copytree(fresh, GEN)
        shutil.copyfile(described, DESCRIPTORS)


if __name__ == "__main__":
    main()
