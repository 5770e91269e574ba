"""Builds the peers below build/peers: Kafka Streams with Maven, Quix Streams in an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

from bench.command import ROOT
from devstack.errors import MissingTool
from devstack.kafka import tools

HERE = Path(__file__).parent
BUILD = ROOT / "build" / "peers"
_POM = HERE / "streams" / "pom.xml"
_LOCK = HERE / "quix" / "requirements.lock"


def messages(into: Path = BUILD) -> Path:
    """Compiles fold.proto to a descriptor set."""
    into.mkdir(parents=True, exist_ok=True)
    made = into / "fold.binpb"
    include = [f"-I{HERE}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    if protoc.main(["protoc", *include, f"--descriptor_set_out={made}", str(HERE / "fold.proto")]):
        raise SystemExit("protoc failed on fold.proto")
    return made


def streams() -> list[str]:
    """Builds the fold on Kafka Streams. Returns the command without its arguments."""
    try:
        java = tools.java(with_maven=True)
    except MissingTool as error:
        raise SystemExit(str(error)) from error
    _run(
        ["mvn", "-q", "-B", "-f", str(_POM), "compile", "dependency:copy-dependencies"],
        environment=tools.maven_environment(),
    )
    made = BUILD / "streams"
    return [java, "-cp", f"{made / 'classes'}:{made / 'jars'}/*", "groupbuy.peers.Fold"]


def quix() -> list[str]:
    """Creates the environment of Quix Streams. Returns the command without its arguments."""
    made = BUILD / "quix"
    python = made / "bin" / "python"
    done = made / ".done"
    if not done.is_file() or done.read_bytes() != _LOCK.read_bytes():
        _run([sys.executable, "-m", "venv", "--clear", str(made)])
        _run(
            [
                str(python),
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                "--require-hashes",
                "-r",
                str(_LOCK),
            ]
        )
        done.write_bytes(_LOCK.read_bytes())
    return [str(python), "-m", "bench.peers.quix.fold"]


def versions() -> dict[str, str]:
    """The pinned versions of the peers."""
    pom, lock = _POM.read_text(encoding="utf-8"), _LOCK.read_text(encoding="utf-8")
    kafka = re.search(r"<kafka.version>(.*)</kafka.version>", pom)
    quixstreams = re.search(r"^quixstreams==(\S+)", lock, re.MULTILINE)
    if kafka is None or quixstreams is None:
        raise SystemExit("pom.xml or requirements.lock has no version of the peer")
    return {"Kafka Streams": kafka[1], "Quix Streams": quixstreams[1]}


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    if subprocess.run(command, check=False, env={**os.environ, **(environment or {})}).returncode:
        raise SystemExit(f"{' '.join(command)} failed")
