"""`make images`: builds the images, checks them, and prints one JSON object with `size_mb` and each check.

Exits with 1 if a check fails, and with 0 and `skipped` where containers can't be run. The checks run the image as it
should be run: uid 65532, read-only root file system, no capability, no network.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from devstack.kafka import jars
from tests.compose.engine import ContainerFailed, Engine, Unavailable
from tools.distributions import common_version

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "image"
IMAGE, SIMULATOR, KAFKA = "localhost/groupbuy", "localhost/groupbuy-simulator", "localhost/groupbuy-kafka"
MAX_MB = 200.0
#: Exit code of base.sh if mmdebstrap fails.
NO_PACKAGES = 75
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none", "--tmpfs=/tmp")
#: Runs in the container, and prints the names of modules that should not be there.
FOREIGN = """
import importlib.util as u, json, sys
from groupbuy_settlement.__main__ import enter_runtime
enter_runtime()
names = ["devstack", "simulators", "bench", "tests", "tools", "groupbuy_testing", "ops.demo", "pytest", "pip", "uv"]
print(json.dumps([name for name in names if u.find_spec(name)]))
"""
#: Runs in the container: imports every module, and uses the packages of which the image has a part. Prints how many
#: modules there are.
COMPLETE = """
import importlib, io, pkgutil, sys
from groupbuy_settlement.__main__ import enter_runtime
enter_runtime()
tops = [importlib.import_module(one) for one in ("chassis", "console", "eventlog", "ops", "services", "shared_kernel")]
found = [one.name for top in tops for one in pkgutil.walk_packages(top.__path__, f"{top.__name__}.")]
for name in found:
    if not name.endswith("__main__"):
        importlib.import_module(name)
import stripe
client = stripe.StripeClient("sk_test_x")
for part in (client.v1.payment_intents, client.v1.refunds, client.v1.disputes, client.v1.balance_transactions):
    assert part.list
from PIL import Image, ImageDraw, ImageFont
from rich.syntax import Syntax
assert len(Syntax("x = 1", "python").highlight("x = 1").spans) > 1
picture = Image.new("RGB", (64, 32))
ImageDraw.Draw(picture).text((2, 2), "8900", font=ImageFont.load_default(12), fill="white")
made = io.BytesIO()
picture.save(made, "PNG")
assert made.getvalue().startswith(bytes([137]) + b"PNG") and len(picture.getcolors()) > 1
print(len(found))
"""
MIN_MODULES = 300
#: Ends the process as a violated invariant does.
CRASH = """
from groupbuy_settlement.__main__ import enter_runtime
enter_runtime()
from eventlog.runtime.abort import abort
abort("a test of the image")
"""


def build(engine: Engine, say: Callable[[str], None]) -> None:
    """Builds all images. Environment variables BASE and UV name images of a registry; else they are made here.

    Raises Unavailable if this machine can't have or run them, and ContainerFailed.
    """
    base, build_base = os.environ.get("BASE"), os.environ.get("BUILD_BASE")
    if not base:
        base, build_base = (_base(engine, "python", part, say) for part in ("base", "build"))
        engine.require_running(base)
    uv = os.environ.get("UV") or _uv(engine)
    arguments = {
        "BASE": base,
        "BUILD_BASE": build_base or base,
        "UV": uv,
        "VERSION": common_version(),
        "REVISION": _git("rev-parse", "HEAD"),
        "CREATED": datetime.fromtimestamp(int(_git("show", "-s", "--format=%ct", "HEAD")), UTC).isoformat(),
        "SOURCE_DATE_EPOCH": _git("show", "-s", "--format=%ct", "HEAD"),
    }
    options = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    file = DEPLOY / "Containerfile"
    for tag, target in ((IMAGE, ()), (SIMULATOR, ("--target", "simulator"))):
        say(f"building {tag}")
        engine.build(tag, file, ROOT, "--ignorefile", f"{file}.dockerignore", *options, *target)
    say(f"building {KAFKA}")
    _kafka(engine, say)


def _base(engine: Engine, kind: str, part: str, say: Callable[[str], None]) -> str:
    """The image of an archive of base.sh, which is made once for each content of the script."""
    version = hashlib.sha256((DEPLOY / "base.sh").read_bytes()).hexdigest()[:12]
    tag = f"localhost/groupbuy-{kind}-{part}:{version}"
    if engine.run("podman", "image", "exists", tag, check=False).returncode:
        archives = engine.home / f"{kind}-{version}"
        archives.mkdir(parents=True, exist_ok=True)
        with (archives / "lock").open("w") as lock:
            # Two runs at once would write into one archive.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (archives / "base.tar").exists():
                say(f"making the base image with {kind} from Debian's packages; this happens once")
                _make_archives(engine, kind, archives)
        engine.import_tar(tag, archives / f"{part}.tar")
    return tag


def _make_archives(engine: Engine, kind: str, archives: Path) -> None:
    made = engine.run("sh", str(DEPLOY / "base.sh"), str(archives), kind, check=False)
    if made.returncode == NO_PACKAGES:
        raise Unavailable("Debian's packages can't be had here, of which the base images are made")
    if made.returncode:
        raise ContainerFailed(f"base.sh {kind} ended with {made.returncode}:\n{made.stderr[-2000:]}")


def _uv(engine: Engine) -> str:
    """An image of the uv of this environment, as the official one has it."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(Path(sys.executable).with_name("uv"), Path(name) / "uv")
        (Path(name) / "Containerfile").write_text("FROM scratch\nCOPY uv /uv\n", encoding="utf-8")
        engine.build("localhost/groupbuy-uv", Path(name) / "Containerfile", Path(name))
    return "localhost/groupbuy-uv"


def _kafka(engine: Engine, say: Callable[[str], None]) -> None:
    base = _base(engine, "java", "base", say)
    with tempfile.TemporaryDirectory() as name:
        context = Path(name)
        shutil.copytree(jars.resolve(), context / "jars")
        for file in (
            DEPLOY / "kafka-storage.sh",
            DEPLOY / "kafka-server-start.sh",
            jars.POM.parent / "log4j2.properties",
        ):
            shutil.copy(file, context)
        engine.build(KAFKA, DEPLOY / "Containerfile.kafka", context, "--build-arg", f"BASE={base}")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def check(engine: Engine) -> dict[str, object]:
    """The figures of the built images, and under `checks` whether each claim holds."""
    inspected = json.loads(engine.podman("image", "inspect", IMAGE))[0]
    size_mb = round(inspected["Size"] / 1e6, 1)
    labels, config = inspected["Labels"] or {}, inspected["Config"]
    sbom = json.loads(_run(engine, "cat", "/app/sbom.cdx.json").stdout)
    names = {one["name"] for one in sbom["components"]}
    named = {"title", "description", "licenses", "version", "revision", "created"}
    checks = {
        "size": size_mb <= MAX_MB,
        "user": _run(engine, "id", "-u").stdout.strip() == "65532" and config["User"] == "65532:65532",
        "code_0": _run(engine, "groupbuy-ops", "--version").returncode == 0,
        "code_0_after_sigterm": _stopped(engine) == 0,
        "code_2": _service(engine).returncode == 2,
        "code_70": _run(engine, "python", "-P", "-c", CRASH).returncode == 70,
        "read_only": "Read-only" in _run(engine, "sh", "-c", "touch /app/x").stderr,
        "no_capabilities": "0000000000000000" in _run(engine, "grep", "CapBnd", "/proc/self/status").stdout,
        "labels": named <= {name.removeprefix("org.opencontainers.image.") for name in labels},
        "license": "Apache License" in _run(engine, "cat", "/app/LICENSE").stdout,
        "sbom": sbom["bomFormat"] == "CycloneDX" and {"grpcio", "aiokafka", "libc6", "tini"} <= names,
        "complete": int(_run(engine, "python", "-P", "-c", COMPLETE).stdout or 0) >= MIN_MODULES,
        "nothing_foreign": _run(engine, "python", "-P", "-c", FOREIGN).stdout.strip() == "[]",
        "simulator": _run(
            engine, "python", "-P", "-m", "groupbuy_settlement", "simulators.psp", "--help", image=SIMULATOR
        ).returncode
        == 0,
    }
    return {"size_mb": size_mb, "sbom_components": len(names), "checks": checks}


def _run(engine: Engine, *command: str, image: str = IMAGE) -> subprocess.CompletedProcess[str]:
    return engine.run("podman", "run", "--rm", *HARDENED, image, *command, check=False)


def _service(engine: Engine) -> subprocess.CompletedProcess[str]:
    return _run(engine, "python", "-P", "-m", "groupbuy_settlement", "services.orders")


def _stopped(engine: Engine) -> int:
    """The exit code of a service that waits for its broker, after SIGTERM."""
    variables = ("-e", "GROUPBUY_ORDERS_INSECURE=true", "-e", "GROUPBUY_ORDERS_STATE_DIR=/tmp/state")
    command = ("python", "-P", "-m", "groupbuy_settlement", "services.orders")
    name = engine.podman("run", "-d", *HARDENED, *variables, IMAGE, *command)
    try:
        deadline = time.monotonic() + 30
        while "is unavailable" not in _logs(engine, name) and time.monotonic() < deadline:
            engine.run("podman", "wait", "--condition", "running", name, check=False)
        engine.podman("stop", "-t", "20", name)
        return int(engine.podman("inspect", "-f", "{{.State.ExitCode}}", name))
    finally:
        engine.podman("rm", "-f", name)


def _logs(engine: Engine, name: str) -> str:
    done = engine.run("podman", "logs", name, check=False)
    return done.stdout + done.stderr


def main() -> int:
    """Builds and checks. Returns the exit code."""
    try:
        engine = Engine()
    except Unavailable as reason:
        print(json.dumps({"skipped": str(reason)}))
        return 0
    try:
        build(engine, lambda line: print(line, file=sys.stderr, flush=True))
        found = check(engine)
    except Unavailable as reason:
        print(json.dumps({"skipped": str(reason)}))
        return 0
    except ContainerFailed as error:
        print(error, file=sys.stderr)
        print(json.dumps({"failed": str(error).splitlines()[0]}))
        return 1
    finally:
        engine.close()
    print(json.dumps(found))
    checks = found["checks"]
    return 0 if isinstance(checks, dict) and all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
