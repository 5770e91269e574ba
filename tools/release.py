"""`make release`: checks that a commit can be released, and builds all files of the release into dist/.

The tree has to be clean, the version of the tag, of each distribution and of the changelog the same, and the generated
code current. It writes the wheels, sdist, descriptor set, SBOM, release notes and SHA256SUMS, and publishes nothing.
The files are dated by the commit, so the same commit gives the same files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from tools.distributions import BuildFailed, build_wheels, common_version, project
from tools.sbom import LockUnreadable, Pinned, make_sbom, read_lock

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?")


class ReleaseRefused(Exception):
    """The commit can't be released; the message gives the reason."""


def version_of(tags: Iterable[str], wanted: str, project: str) -> str:
    """The version to release, from the tags of the commit or the argument.

    Raises ReleaseRefused where there is none, or where tag, argument and pyproject.toml differ.
    """
    tagged = {tag.removeprefix("v") for tag in tags if tag.startswith("v") and VERSION.fullmatch(tag[1:])}
    found = tagged | ({wanted} if wanted else set())
    if not found:
        raise ReleaseRefused("the commit has no tag v<version>; tag it, or name the version: make release VERSION=…")
    if len(found) > 1:
        raise ReleaseRefused(f"tags and argument name several versions: {', '.join(sorted(found))}")
    (version,) = found
    if not VERSION.fullmatch(version):
        raise ReleaseRefused(f"{version} is no version: use major.minor.patch")
    if version != project:
        raise ReleaseRefused(f"the version is {version}, but pyproject.toml has {project}")
    return version


def changelog_section(text: str, version: str) -> str:
    """The changelog's section of the version, without its heading.

    Raises ReleaseRefused where the section is missing, has no date, or lists no change.
    """
    heading = re.compile(rf"^## \[?{re.escape(version)}\]?(?: - (.+?))?[ \t]*$", re.MULTILINE)
    found = heading.findall(text)
    if len(found) != 1:
        count = f"{len(found)} sections" if found else "no section"
        raise ReleaseRefused(f"CHANGELOG.md has {count} for {version}")
    try:
        date.fromisoformat(found[0])
    except ValueError:
        raise ReleaseRefused(f"the section for {version} has no date: write `## [{version}] - YYYY-MM-DD`") from None
    rest = heading.split(text, maxsplit=1)[2]
    # The section ends at the next heading, or where the definitions of links begin.
    body = re.split(r"^(?:## |\[[^\]]+\]: )", rest, maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not re.search(r"^- \S", body, re.MULTILINE):
        raise ReleaseRefused(f"the section for {version} lists no change")
    return body


def checksums(files: Iterable[Path]) -> str:
    """The text of SHA256SUMS, as `sha256sum --check` reads it."""
    lines = [f"{_sha256(one)}  {one.name}\n" for one in files]
    return "".join(sorted(lines, key=lambda line: line.split("  ", 1)[1]))


def build(version: str, notes: str, time: datetime, into: Path) -> None:
    """Writes all files of the release into an empty directory. Raises ReleaseRefused or BuildFailed."""
    dated = {"SOURCE_DATE_EPOCH": str(int(time.timestamp()))}
    wheels = build_wheels(into, dated)
    _run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(into)], {**os.environ, **dated})
    settlement = project("groupbuy-settlement")
    name = f"groupbuy_settlement-{version}"
    if not (into / f"{name}.tar.gz").exists():
        raise ReleaseRefused(f"the build did not make {name}.tar.gz")
    shutil.copyfile(ROOT / "protos" / "groupbuy.binpb", into / f"{name}.binpb")
    packages = read_lock((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    client = Pinned("groupbuy-client", version, (_sha256(wheels["groupbuy-client"]),))
    sbom = json.dumps(make_sbom(settlement, (client, *packages), time), indent=2, ensure_ascii=False)
    (into / f"{name}.cdx.json").write_text(sbom + "\n", encoding="utf-8")
    (into / f"{name}.md").write_text(notes + "\n", encoding="utf-8")
    (into / "SHA256SUMS").write_text(checksums(sorted(into.iterdir())), encoding="utf-8")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _run(command: Sequence[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseRefused(f"{' '.join(command[:4])} failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def release(wanted: str) -> Path:
    """Checks and builds; gives the directory. Raises ReleaseRefused, and changes nothing then."""
    if changed := _run(["git", "status", "--porcelain"]):
        raise ReleaseRefused(f"the tree is not clean:\n{changed}")
    version = version_of(_run(["git", "tag", "--points-at", "HEAD"]).split(), wanted, common_version())
    notes = changelog_section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    # The generated code and the descriptor set are those of protos/.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    _run([sys.executable, "protos/generate.py", "--check"], {**os.environ, "PATH": path})
    time = datetime.fromtimestamp(int(_run(["git", "show", "-s", "--format=%ct", "HEAD"])), UTC)
    dist = ROOT / "dist"
    with tempfile.TemporaryDirectory(prefix="groupbuy-release-") as name:
        into = Path(name) / "dist"
        into.mkdir()
        build(version, notes, time, into)
        shutil.rmtree(dist, ignore_errors=True)
        shutil.copytree(into, dist)
    return dist


def main() -> None:
    """Runs the command; exits 1 where the commit can't be released."""
    parser = argparse.ArgumentParser(description="Checks a commit and builds the files of its release into dist/.")
    parser.add_argument("--version", default="", help="the version; the commit's tag v<version> where it is left out")
    try:
        dist = release(parser.parse_args().version)
    except (ReleaseRefused, BuildFailed, LockUnreadable) as error:
        sys.exit(f"no release: {error}")
    print((dist / "SHA256SUMS").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
