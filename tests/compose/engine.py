"""Podman and Buildah with a store of their own, so that the user's images and containers are not touched.

Without systemd nobody runs Podman's health checks, so `serving` does. Compose talks to Podman through its socket.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from devstack.kafka import jars
from devstack.supervision.waiting import wait_for

TOOLS = ("podman", "buildah", "runc", "mmdebstrap", "iptables")
#: Debian's packages with the tools, and with Podman's network.
PACKAGES = ("buildah", "podman", "runc", "netavark", "aardvark-dns", "mmdebstrap", "iptables")
#: runc and cgroupfs, because crun fails with the hybrid cgroups of some virtual machines.
_SETTINGS = """
[network]
network_backend = "netavark"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
"""
#: Podman's own defaults are above the hard limits of some machines, and runc then refuses to start anything.
_MAX_FILES, _MAX_PROCESSES = 65_536, 30_000
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{home}/graph"
runroot = "{run}"
"""
#: Texts of tools that can't reach a registry of packages or images.
_UNREACHABLE = re.compile(
    r"Failed to fetch|error sending request|dns error|Temporary failure in name resolution|Could not resolve|"
    r"Connection (refused|timed out)|i/o timeout|pinging container registry|503 Service Unavailable",
    re.IGNORECASE,
)
#: Seconds between two rounds of health checks.
_HEALTH_S = 2.0


class Unavailable(Exception):
    """Containers can't be run on this machine; the message gives the reason."""


class ContainerFailed(Exception):
    """A command of Podman, Buildah or Compose failed; the message has the end of its output."""


class Engine:
    """The tools of one machine. The images stay in the user's cache; `close` removes what a run has left."""

    def __init__(self) -> None:
        """Raises Unavailable with one sentence."""
        if os.geteuid() != 0:
            raise Unavailable("containers are run as root here: the user namespaces of other users are not set up")
        if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
            raise Unavailable(f"{', '.join(missing)} not found: apt-get install {' '.join(PACKAGES)}")
        self.home = jars.home() / "containers"
        self.home.mkdir(parents=True, exist_ok=True)
        self._run = Path(tempfile.mkdtemp(prefix="groupbuy-containers-"))
        limits = {
            "files": _limit(resource.RLIMIT_NOFILE, _MAX_FILES),
            "processes": _limit(resource.RLIMIT_NPROC, _MAX_PROCESSES),
        }
        (self._run / "containers.conf").write_text(_SETTINGS.format(**limits), encoding="utf-8")
        storage = _STORAGE.format(home=self.home, run=self.home / "run")
        (self._run / "storage.conf").write_text(storage, encoding="utf-8")
        self.socket = self._run / "podman.sock"
        self.environment: Mapping[str, str] = {
            **os.environ,
            "CONTAINERS_CONF": str(self._run / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._run / "storage.conf"),
            "DOCKER_HOST": f"unix://{self.socket}",
        }

    def close(self) -> None:
        """Deletes the settings, and layers of builds that no image has had for a day. The images stay."""
        self.podman("image", "prune", "-f", "--filter", "until=24h", check=False)
        shutil.rmtree(self._run, ignore_errors=True)

    def run(
        self,
        *command: str,
        check: bool = True,
        timeout_s: float = 900.0,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command. Raises ContainerFailed if it fails and `check` is set, or takes too long."""
        variables = environment or self.environment
        try:
            done = subprocess.run(
                command, env=variables, capture_output=True, text=True, check=False, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise ContainerFailed(f"{' '.join(command[:12])} did not end within {timeout_s:.0f} s") from error
        if check and done.returncode:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
            raise ContainerFailed(f"{' '.join(command[:6])} ended with {done.returncode}:\n{said}")
        return done

    def podman(self, *arguments: str, check: bool = True) -> str:
        """Runs Podman, and returns its standard output without the last line feed."""
        return self.run("podman", *arguments, check=check).stdout.strip()

    def build(self, tag: str, file: Path, context: Path, *options: str) -> None:
        """Builds an image with Buildah's layer cache. Raises Unavailable if a registry can't be reached."""
        certificates = ("-v", "/etc/ssl/certs:/etc/ssl/certs:ro")
        common = ("build", "--quiet", "--isolation", "chroot", "--layers", *certificates)
        try:
            self.run("buildah", *common, "-f", str(file), "-t", tag, *options, str(context))
        except ContainerFailed as error:
            if found := _UNREACHABLE.search(str(error)):
                raise Unavailable(f"{tag} needs packages that can't be downloaded here ({found[0]})") from error
            raise

    def require_running(self, image: str) -> None:
        """Raises Unavailable if this machine can't run a container of an image with a network."""
        done = self.run("podman", "run", "--rm", image, "true", check=False, timeout_s=60)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise Unavailable(f"Podman can't run a container here: {last}")

    def import_tar(self, tag: str, archive: Path) -> None:
        """Makes an image of one archive."""
        with tempfile.TemporaryDirectory() as name:
            shutil.copyfile(archive, Path(name) / "root.tar")
            file = Path(name) / "Containerfile"
            file.write_text("FROM scratch\nADD root.tar /\n", encoding="utf-8")
            self.build(tag, file, Path(name))

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Podman's socket for Compose, and the loop of health checks, until the block ends."""
        command = ["podman", "system", "service", "--time", "0", f"unix://{self.socket}"]
        service = subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not end it before the containers are removed
        )
        over = threading.Event()
        checks = threading.Thread(target=self._check_health, args=(over,), daemon=True)
        try:
            if not wait_for(self.socket.exists, timeout_s=20):
                raise ContainerFailed("podman system service did not open its socket within 20 s")
            checks.start()
            yield
        finally:
            over.set()
            if checks.is_alive():
                checks.join()
            with suppress(ProcessLookupError):
                service.send_signal(signal.SIGTERM)
            service.wait(timeout=20)

    def _check_health(self, over: threading.Event) -> None:
        while not over.wait(_HEALTH_S):
            listed = self.podman("ps", "--format", "{{.ID}} {{.Status}}", check=False)
            for line in listed.splitlines():
                name, _, status = line.partition(" ")
                if over.is_set():
                    return
                # Podman shows no state for containers without a health check. Healthy ones are left alone: each check
                # takes 0.2 s of a core.
                if "starting" in status or "unhealthy" in status:
                    self.run("podman", "healthcheck", "run", name, check=False)


def _limit(kind: int, most: int) -> int:
    _, hard = resource.getrlimit(kind)
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def compose_command(compose: Path, layers: Sequence[str], project: str) -> tuple[str, ...]:
    """The start of a Compose command for some layers of a folder: `compose` is the program's folder."""
    files = [word for layer in layers for word in ("-f", str(compose / f"{layer}.yaml"))]
    return (str(Path(sys.executable).with_name("docker-compose")), "-p", project, *files)
