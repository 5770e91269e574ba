"""The tests of containers are skipped where images can't be had or run, and fail where a build fails."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.compose import images
from tests.compose.engine import TOOLS

#: What each tool does when everything works, as far as a build needs it. No base image is there.
WORKING = {
    "podman": 'case "$*" in "image exists"*) exit 1 ;; esac',
    "buildah": "exit 0",
    "mmdebstrap": 'for root in "$@"; do :; done; mkdir -p "$root/usr" "$root/var/lib/dpkg/info" "$root/bin"; '
    'touch "$root/var/lib/dpkg/status"',
    "runc": "exit 0",
    "iptables": "exit 0",
}
#: Buildah at our own images; those of one archive or one file are built.
FAILS = "case \"$*\" in *Containerfile.dockerignore*) echo '{}' >&2; exit 1 ;; esac"
REFUSED = "buildah fails"


@pytest.mark.parametrize(
    ("broken", "code", "said"),
    [
        ({"mmdebstrap": "echo 'E: no mirror' >&2; exit 25"}, 0, "Debian's packages can't be had here"),
        (
            {"podman": WORKING["podman"] + '; case "$*" in run*) echo "netavark: no iptables" >&2; exit 126 ;; esac'},
            0,
            "Podman can't run a container here: netavark: no iptables",
        ),
        (
            {"buildah": FAILS.format("error: Failed to fetch")},
            0,
            "needs packages that can't be downloaded here (Failed to fetch)",
        ),
        (
            {"buildah": FAILS.format(REFUSED)},
            1,
            "buildah build",
        ),
    ],
    ids=["no Debian", "no containers", "no packages", "a broken build"],
)
def test_what_is_skipped_and_what_fails(
    broken: dict[str, str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, script in {**WORKING, **broken}.items():
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        tool.chmod(0o755)
    assert {*TOOLS} <= WORKING.keys()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("BASE", "BUILD_BASE", "UV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert images.main() == code
    captured = capsys.readouterr()
    result = json.loads(captured.out.splitlines()[-1])
    (text,) = result.values()
    assert ("skipped" in result) is (code == 0)
    assert said in text, (text, captured.err)
    assert (REFUSED in captured.err) is (code == 1)
