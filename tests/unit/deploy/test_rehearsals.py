"""The verdicts of the runs of an upgrade and of a restore: each claim that does not hold fails them."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from devstack.product import Layout
from tests.restore import run as restore
from tests.unit.deploy.external_tools import ROOT
from tests.upgrade import run as upgrade
from tests.upgrade.versions import NoOlderVersion, Version, VersionFailed, altered, older_commit

REPLAY = {"version": "a", "code": 0, "decisions": 5, "differences": 0}
UPGRADED: dict[str, Any] = {
    "topics_created": True,
    "gates": [REPLAY, REPLAY, {**REPLAY, "code": 1, "differences": 3}],
    "staged": True,
    "directions": [
        {"clean": True, "violations": 0, "books_equal": True, "newest_rules": count, "replays": [REPLAY, REPLAY]}
        for count in (0, 0, 7)
    ],
    "side_by_side": [{"groups": {"a": 4, "b": 4}, "payments": {"a": 3, "b": 5}}],
}
RESTORED: dict[str, Any] = {
    "copied_live": {"live": True, "records": 9},
    "copied": {"live": False, "records": 3},
    "checks": {
        "pending": 4,
        "verify": True,
        "audit": True,
        "replay": True,
        "same_decisions": True,
        "offsets_proven": True,
        "offsets_missing": 40,
    },
    "clean": True,
    "violations": 0,
    "books_equal": True,
    "captured": 9,
    "captured_before": 4,
    "executed_twice": [],
    "returned": [],
    "failure": "",
}


def changed(found: dict[str, Any], path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """A copy of some figures with another value at a place."""
    result = copy.deepcopy(found)
    at: Any = result
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return result


@pytest.mark.parametrize(("good", "found"), [(upgrade.good, UPGRADED), (restore.good, RESTORED)])
def test_all_claims_hold(good: Callable[[dict[str, Any]], bool], found: dict[str, Any]) -> None:
    assert good(found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("topics_created",), False),
        (("gates", 1, "differences"), 1),
        (("gates", 1, "decisions"), 0),
        (("gates", 2, "code"), 0),
        (("gates", 2, "differences"), 0),
        (("directions", 0, "clean"), False),
        (("directions", 0, "violations"), 1),
        (("directions", 0, "books_equal"), False),
        (("directions", 0, "replays", 1, "code"), 1),
        (("side_by_side", 0, "groups", "b"), 0),
        (("side_by_side", 0, "payments"), {"a": 8}),
        (("side_by_side",), []),
        (("directions", 1, "newest_rules"), 1),
        (("directions", 2, "newest_rules"), 0),
    ],
)
def test_each_claim_of_an_upgrade_can_fail(path: tuple[str | int, ...], value: object) -> None:
    assert not upgrade.good(changed(UPGRADED, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("copied_live", "live"), False),
        (("checks", "pending"), 0),
        *((("checks", name), False) for name in ("verify", "audit", "replay", "same_decisions", "offsets_proven")),
        (("clean",), False),
        (("violations",), 1),
        (("books_equal",), False),
        (("captured",), 4),
        (("captured_before",), 0),
        (("executed_twice",), ["order"]),
        (("returned",), ["order"]),
        (("failure",), "payments ended with code 2"),
    ],
)
def test_each_claim_of_a_restore_can_fail(path: tuple[str | int, ...], value: object) -> None:
    assert not restore.good(changed(RESTORED, path, value))


def entry(order: str, hold: str, captured: int = 0, captures: int = 0) -> StatementEntry:
    return StatementEntry(
        order=order, hold=hold, authorised_minor=100, captured_minor=captured, captures=captures or int(captured > 0)
    )


def test_a_call_that_was_executed_twice_is_found() -> None:
    before = [entry("a", "h1", 90), entry("b", "h2")]
    assert restore.executed_twice(before, [entry("a", "h1", 90), entry("b", "h2", 80)]) == []
    assert restore.executed_twice(before, [entry("a", "h1", 90), entry("b", "h2"), entry("b", "h3")]) == ["b"]
    assert restore.executed_twice(before, [entry("a", "h1", 80), entry("b", "h2")]) == ["a"]
    assert restore.executed_twice(before, [entry("b", "h2")]) == ["a"]
    assert restore.executed_twice([], [entry("c", "h4", 90, captures=2)]) == ["c"]


def test_another_rule_is_put_into_a_copy_of_a_version(tmp_path: Path) -> None:
    module = "services/groups/domain/pricing.py"
    place = tmp_path / "old/environment/lib/python3.11/site-packages/groupbuy_settlement/_runtime" / module
    place.parent.mkdir(parents=True)
    place.write_text((ROOT / module).read_text(encoding="utf-8"), encoding="utf-8")
    version = Version("old", tmp_path / "old/environment")
    made = altered(version, tmp_path / "new", *upgrade.WRONG_RULE)
    (changed_file,) = made.environment.rglob("pricing.py")
    assert upgrade.WRONG_RULE[2] in changed_file.read_text(encoding="utf-8")
    assert upgrade.WRONG_RULE[2] not in place.read_text(encoding="utf-8")
    with pytest.raises(VersionFailed, match="does not have 'no such rule' once"):
        altered(version, tmp_path / "third", module, "no such rule", "")


def version_of(place: Path, name: str, settings: str, **variables: str) -> Version:
    """A version whose processes print these settings as their help, and otherwise their environment."""
    python = place / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\ncase "$*" in *--help) echo "{settings}" ;; *) env ;; esac\n', encoding="utf-8")
    python.chmod(0o755)
    return Version(name, place / name, variables)


def test_a_process_gets_the_settings_that_its_version_knows(tmp_path: Path) -> None:
    releases = upgrade.Releases(tmp_path / "releases")
    setting = upgrade.RULES_VERSION
    endpoints = dict.fromkeys(("payments", "provider", "provider_http", "payments_webhooks"), "127.0.0.1:1")
    (tmp_path / "data" / "wechat_keys").mkdir(parents=True)
    (tmp_path / "data" / "wechat_keys" / "apiv3_key").write_text("key", encoding="utf-8")
    layout = Layout("127.0.0.1:2", tmp_path / "data", endpoints)
    older = version_of(tmp_path, "older", "GROUPBUY_PAYMENTS_KAFKA GROUPBUY_PAYMENTS_PROVIDER")
    newer = version_of(tmp_path, "newer", f"GROUPBUY_PAYMENTS_KAFKA GROUPBUY_PAYMENTS_STRIPE_KEY {setting}")
    found = []
    for version in (older, dataclasses.replace(newer, variables={setting: "1"}), newer):
        releases.use("payments", version)
        child = releases.plan().then["payments"](layout)
        environment = {"PATH": os.environ["PATH"], **child.environment}
        done = subprocess.run(child.argv, env=environment, capture_output=True, text=True, check=True, timeout=20)
        lines = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("GROUPBUY_"))
        assert lines["GROUPBUY_PAYMENTS_KAFKA"] == "127.0.0.1:2"
        found.append(
            (lines.get(setting), "GROUPBUY_PAYMENTS_STRIPE_KEY" in lines, "GROUPBUY_PAYMENTS_PROVIDER" in lines)
        )
    assert found == [(None, False, True), ("1", True, False), (None, True, False)]


def test_an_older_version_meets_the_first_rules_only(tmp_path: Path) -> None:
    older = version_of(tmp_path, "older", "GROUPBUY_PAYMENTS_KAFKA")
    newer = version_of(tmp_path, "newer", upgrade.RULES_VERSION)
    there, back, raised = upgrade.steps(older, newer)
    assert (there[0], back[1], raised[1]) == (older, older, newer)
    assert there[1] == back[0] == raised[0]
    assert (there[1].environment, there[1].variables) == (newer.environment, {upgrade.RULES_VERSION: "1"})
    assert upgrade.steps(newer, newer) == [(newer, newer), (newer, newer)]


def test_a_version_that_can_not_say_its_settings_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(VersionFailed, match="--help of older ended with 0"):
        version_of(tmp_path, "older", "nothing").settings("services.orders")


def test_a_clone_without_the_older_commit_is_skipped_with_one_sentence() -> None:
    unknown = "0" * 40
    with pytest.raises(NoOlderVersion, match="a shallow clone"):
        older_commit(unknown)
    command = (sys.executable, "-m", "tests.upgrade.run", "--older", unknown)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() == {"skipped"}
