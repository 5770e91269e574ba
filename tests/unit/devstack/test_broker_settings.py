"""server.properties names the broker's directory in a way that Java reads, whatever characters its path has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.certificates.ca import Issued
from devstack.errors import BrokerFailed
from devstack.kafka.broker import Broker, escape_property
from devstack.kafka.secured import Secured

NAMES = ("plain", "with space", "münchen", "拼团", "😀", "back\\slash", "dollar$port", "a=b:c#d!", "tab\there")


def load_properties(path: Path) -> dict[str, str]:
    """Reads a file as `java.util.Properties.load` does: Latin-1, with escapes."""
    text = re.sub(r"(?<!\\)((?:\\\\)*)\\\n\s*", r"\1", path.read_bytes().decode("latin-1"))
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith(("#", "!")):
            name, _, value = line.partition("=")
            found[name] = re.sub(r"\\(?:u([0-9a-f]{4})|(.))", _unescaped, value)
    return {name: value.encode("utf-16-be", "surrogatepass").decode("utf-16-be") for name, value in found.items()}


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else escape[2]


@pytest.mark.parametrize("name", NAMES)
def test_java_reads_the_directory_back(name: str, tmp_path: Path) -> None:
    directory = tmp_path / name
    directory.mkdir()
    Broker()._write_settings(directory / "server.properties", 1, 2, directory / "data")
    found = load_properties(directory / "server.properties")
    assert found["log.dirs"] == str(directory / "data")
    assert found["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1"


def test_java_reads_the_certificates_of_a_secured_broker_back(tmp_path: Path) -> None:
    directory = tmp_path / "拼团"
    directory.mkdir()
    issued = Issued(*(directory / f"{name}.pem" for name in ("certificate", "key", "ca")))
    for path in (issued.certificate, issued.key):
        path.write_text("PEM\n")
    broker = Broker()
    broker._secured = Secured.generate(issued, ())
    broker._write_settings(directory / "server.properties", 1, 2, directory / "data")
    found = load_properties(directory / "server.properties")
    assert found["ssl.keystore.location"] == str(directory / "keystore.pem")
    assert found["ssl.truststore.location"] == str(issued.ca)


def test_a_value_beyond_the_basic_plane_is_two_escapes() -> None:
    assert escape_property("a\\é拼😀") == "a\\\\\\u00e9\\u62fc\\ud83d\\ude00"


def test_a_directory_that_kafka_can_not_name_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BrokerFailed, match="a comma in its path"):
        Broker().start(tmp_path / "a,b")
    assert not (tmp_path / "a,b").exists()


@pytest.mark.parametrize("variables", [{"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {}])
def test_a_path_reaches_the_broker_whatever_the_locale_of_this_process(variables: dict[str, str]) -> None:
    code = "import sys; from devstack.kafka.broker import as_utf8, escape_property as e; print(e(as_utf8(sys.argv[1])))"
    environment = {**os.environ, "LC_ALL": "C", **variables}
    shown = subprocess.run([sys.executable, "-c", code, "拼团"], env=environment, stdout=subprocess.PIPE, check=True)
    assert shown.stdout.decode() == "\\u62fc\\u56e2\n"
