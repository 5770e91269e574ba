"""WeChat Pay's official SDK for Java: its jars, by pinned versions and checksums, and a program that uses it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.contract.peers.fetched import FOLDER as FETCHED
from tests.contract.peers.fetched import PeerMissing, fetching

SOURCES = Path(__file__).parent / "wechat"
FOLDER = FETCHED / "wechatpay-java-0.2.17"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
#: SHA-256 of each jar.
JARS = {
    "gson-2.9.1.jar": "378534e339e6e6d50b1736fb3abb76f1c15d1be3f4c13cec6d536412e23da603",
    "slf4j-api-1.7.36.jar": "d3ef575e3e4979678dc01bf1dcce51021493b4d11fb7f1be8ad982877c16a1c0",
    "wechatpay-java-core-0.2.17.jar": "c83d290a91e1199199562404a1e651ecd43b0904a2ecd04757f006dd08b20a7c",
}
#: Seconds for Maven with an empty cache, and for the program.
MAVEN_LIMIT_S = 50
RUN_LIMIT_S = 60


def answers(asked: dict[str, Any]) -> dict[str, Any]:
    """Answers of the SDK; see WeChatPeer.java. Raises PeerMissing."""
    program = [_tool("java"), "-cp", str(jars() / "*"), str(SOURCES / "WeChatPeer.java")]
    done = subprocess.run(
        program, input=json.dumps(asked), capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the SDK's program failed: {done.stderr[-2_000:]}")
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def jars() -> Path:
    """The folder of the jars; Maven fetches them where they are missing. Raises PeerMissing."""
    _tool("javac")
    with fetching("wechatpay-java"):
        if not FOLDER.exists():
            _fetch()
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.jar")}
    if found != JARS:
        raise RuntimeError(f"the jars of WeChat Pay's SDK are not the pinned ones: {found}")
    return FOLDER


def _fetch() -> None:
    with tempfile.TemporaryDirectory(dir=FETCHED) as folder:
        made = Path(folder) / "jars"
        command = (_tool("mvn"), "-B", "-q", "-f", str(SOURCES / "pom.xml"), PLUGIN, f"-DoutputDirectory={made}")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=MAVEN_LIMIT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise PeerMissing(f"Maven did not fetch WeChat Pay's SDK within {MAVEN_LIMIT_S} s.") from error
        if done.returncode:
            raise PeerMissing(f"Maven can't fetch WeChat Pay's SDK here: {done.stdout.strip()[:200]}.")
        made.replace(FOLDER)


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise PeerMissing(f"WeChat Pay's SDK needs Java and Maven, and {name} is not on PATH.")
    return found
