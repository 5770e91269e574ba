"""State directories and set-aside directories are private, whatever the umask."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.runtime import private_files

WORK = """
import os, sys
from pathlib import Path
from eventlog.records.log_position import SourcePosition
from eventlog.state.database import Database, Position, set_aside
os.umask(int(sys.argv[2], 8))
path = Path(sys.argv[1]) / "state" / "groups.decider" / "0"
for again in range(2):
    kept = Database(path, "things-1")
    batch = kept.batch()
    for number in range(100):
        batch.put(b"a%03d" % number, os.urandom(100))
    kept.write(batch, Position({"log": SourcePosition(1, b"x")}))
    kept._db.flush()
    kept.close()
    if not again:
        set_aside(path, "damaged", "planted")
"""


def accessible_to_others(directory: Path) -> dict[str, str]:
    """Modes of all files and directories that other users could access."""
    found = [*directory.rglob("*")]
    assert found
    return {str(one): oct(one.stat().st_mode) for one in found if stat.S_IMODE(one.stat().st_mode) & 0o077}


@pytest.mark.parametrize("umask", ["000", "022", "077", "007"])
def test_databases_are_private_whatever_the_umask(umask: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WORK, str(tmp_path), umask], check=True)
    kept = tmp_path / "state" / "groups.decider"
    assert {one.name for one in kept.iterdir()} == {"0", "0.set-aside"}
    assert accessible_to_others(tmp_path) == {}


def test_files_that_an_earlier_build_left_accessible_are_made_private(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WORK, str(tmp_path), "077"], check=True)
    path = tmp_path / "state" / "groups.decider" / "0"
    for one in path.rglob("*"):
        one.chmod(0o644)
    path.chmod(0o755)
    private_files.tree(path)
    assert accessible_to_others(tmp_path) == {}


LOCKED = """
import os, sys
from pathlib import Path
from console.app import state_directory as of_console
from ops.watch.service import state_directory as of_watch
os.umask(int(sys.argv[2], 8))
path = Path(sys.argv[1])
for again in range(2):
    with of_console(path / "a" / "console"), of_watch(path / "b" / "watch", 2):
        pass
    if not again:
        for one in path.rglob("*"):
            one.chmod(0o755 if one.is_dir() else 0o644)
"""


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_the_directories_of_watch_and_console_are_private(umask: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LOCKED, str(tmp_path), umask], check=True)
    found = accessible_to_others(tmp_path)
    # Parents that existed are somebody else's.
    assert set(found) == {str(tmp_path / "a"), str(tmp_path / "b")}
    assert (tmp_path / "a" / "console" / "lock").stat().st_mode & 0o777 == 0o600


def test_links_and_sticky_directories_are_not_changed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    private_files.directory(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    outside = tmp_path / "outside"
    outside.write_text("")
    outside.chmod(0o644)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    private_files.tree(inside)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644
    assert stat.S_IMODE(inside.stat().st_mode) == 0o700
