"""The pages of docs/operating are short, and name only commands, targets, variables, alerts and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from uuid import uuid4

import pytest

from chassis.lifecycle.variables import variables
from console.settings import ConsoleSettings
from docs.commands_page import commands
from eventlog.records.envelope import HeaderTemplate
from ops.broker.topics import PARTITIONS
from ops.main import PROGRAM
from ops.security import OpsSettings
from services.groups.settings import GroupsSettings
from services.inventory.settings import InventorySettings
from services.orders.settings import OrdersSettings
from services.payments.settings import PaymentsSettings
from shared_kernel.topics import ALL, GROUP_LOG, GROUPS_DECIDER
from tests.unit.deploy.external_tools import ROOT
from tests.unit.ops.simulated_system import SimulatedSystem

BOOK = ROOT / "docs" / "operating"
PAGES = sorted(BOOK.glob("*.md"))
COMMANDS = dict(commands())
MAX_WORDS = 1_000
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)

BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
ALERT = re.compile(r"\bGroupbuy[A-Z]\w+")
VARIABLE = re.compile(r"\bGROUPBUY_[A-Z_]+")
#: Names of settings without their prefix, as the pages write them.
SHORT = re.compile(r"`([A-Z][A-Z_]{5,})`")
SUBSTITUTED = re.compile(r"\$\{([A-Z_]+)")
FILE = re.compile(r"\b(?:deploy|protos|docs|chassis|devstack)/[\w./-]*[\w/]")
METRIC = re.compile(r"\bgroupbuy_[a-z_]+")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_the_book_is_complete() -> None:
    names = (
        "backup",
        "capacity",
        "deploying",
        "hardware",
        "monitoring",
        "recovering",
        "security",
        "tools",
        "upgrading",
    )
    assert {page.stem for page in PAGES} >= {*names, "watch"}


@pages
def test_a_page_has_at_most_1000_words(page: Path) -> None:
    assert len(text_of(page).split()) <= MAX_WORDS


def calls_of(text: str) -> list[list[str]]:
    """The calls of `groupbuy-ops` in code, each as its words."""
    lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += [one for one in INLINE.findall(BLOCK.sub("", text)) if one.startswith(f"{PROGRAM} ")]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        if PROGRAM in words:
            found.append(words[words.index(PROGRAM) :])
    return found


@pages
def test_every_command_exists_and_takes_these_options(page: Path) -> None:
    for words in calls_of(text_of(page)):
        if words[1].startswith("-"):
            continue
        name = next((one for one in (" ".join(words[:3]), " ".join(words[:2])) if one in COMMANDS), None)
        assert name is not None, words
        command = COMMANDS[name]
        arguments = words[len(name.split()) :]
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        assert {one for one in arguments if one.startswith("--")} <= {*known, "--help"}, words
        if arguments:
            with command.make_context(name, arguments):
                pass


@pages
def test_every_target_link_and_file_exists(page: Path) -> None:
    text = text_of(page)
    targets = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in targets, target
    for link in LINK.findall(text):
        assert "://" in link or (page.parent / link).exists(), link
    for file in FILE.findall(text):
        assert (ROOT / file).exists() or "," in file, file


@pages
def test_every_alert_variable_and_metric_exists(page: Path) -> None:
    text = text_of(page)
    for alert in ALERT.findall(text):
        assert (ROOT / "docs" / "runbooks" / f"{alert}.md").exists(), alert
    classes = (OrdersSettings, GroupsSettings, PaymentsSettings, InventorySettings, ConsoleSettings, OpsSettings)
    known = {one.name for settings in classes for one in variables(settings)}
    short = {name.split("_", 2)[2] for name in known}
    # Those of the Compose files.
    compose = {
        one for file in (ROOT / "deploy" / "compose").glob("*.yaml") for one in SUBSTITUTED.findall(text_of(file))
    }
    for variable in VARIABLE.findall(text):
        assert variable in known | compose, variable
    others = {"KAFKA_PASSWORD", "KAFKA_SASL_PASSWORD", "CONTEXTS_GROUPBUY_SASL_PASSWORD"}
    others |= {"STRIPE_API_KEY", "STRIPE_API_BASE", "SUCCESS", "REFUND", "CHANGE"}
    for variable in SHORT.findall(text):
        assert variable in {*short, *others, *compose}, variable
    catalogue = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for metric in METRIC.findall(text):
        assert metric in {"groupbuy_testing", "groupbuy_settlement"} or metric in catalogue, metric


def test_capacity_follows_from_the_measured_costs() -> None:
    text = text_of(BOOK / "capacity.md")
    costs_ms = {"payments": 1.1, "groups": 0.5, "orders": 0.4}
    measured = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "payments 1.1 (two provider calls" in measured
    assert "groups 0.5, orders 0.4, the broker 0.3" in measured
    rates = {name: 1_000 / cost for name, cost in costs_ms.items()}
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) / ([\d,]+) / ([\d,]+) \| (\d+) \| ([\d,]+)", text, re.MULTILINE)
    assert len(rows) == 4
    for row in rows:
        load, payments, groups, orders, brokers, partitions = (int(one.replace(",", "")) for one in row)
        divisors = [count for count in range(1, partitions + 1) if partitions % count == 0]
        least = [min(count for count in divisors if count * rates[name] >= load) for name in costs_ms]
        assert [payments, groups, orders] == least, load
        assert brokers == pytest.approx(load * 0.0003, abs=1)
    assert f"{PARTITIONS} payments processes" in text
    assert int(PARTITIONS * rates["payments"]) // 1_000 == 58
    assert f"{len(ALL)} topics × 1,024 × 3 copies are {len(ALL) * 1_024 * 3:,} replicas" in text


def test_sums_of_bytes_are_right() -> None:
    text = text_of(BOOK / "capacity.md")
    rows = re.findall(r"^\| `[\w.]+` \| ([\d.]+) \| ([\d,]+) \| (90 days|for ever) \|$", text, re.MULTILINE)
    assert len(rows) == 5
    sizes = [int(size.replace(",", "")) for _, size, _ in rows]
    assert f"| all | {sum(float(records) for records, _, _ in rows):.1f} | {sum(sizes):,} | |" in text
    kept = sum(size for size, row in zip(sizes, rows, strict=True) if row[2] == "for ever")
    assert f"100 × {kept:,} × 31.5 million s × 3 = {round(100 * kept * 31.5e6 * 3 / 1e12)} TB" in text
    assert (
        f"100 × {sum(sizes) - kept:,} × 7.8 million s × 3 = {round(100 * (sum(sizes) - kept) * 7.8e6 * 3 / 1e12)} TB"
        in text
    )


def test_bytes_of_an_order_are_those_of_a_simulated_evening(tmp_path: Path) -> None:
    orders = 1_000
    system = SimulatedSystem(orders, 1, tmp_path)
    system.run()
    made = HeaderTemplate(GROUP_LOG.type_name, GROUPS_DECIDER).headers(f"{uuid4()}:12", 1_700_000_000_000)
    # A record's own framing, a byte for each length of a header, and the key.
    added = 8 + sum(len(name) + len(value) + 2 for name, value in made) + 36
    assert added == pytest.approx(257, abs=15)
    text = text_of(BOOK / "capacity.md")
    rows = re.findall(r"^\| `([\w.]+)` \| ([\d.]+) \| ([\d,]+) \| ", text, re.MULTILINE)
    assert {name for name, *_ in rows} == set(system.topics)
    for name, records, size in rows:
        lines = system.topics[name]
        assert float(records) == pytest.approx(len(lines) / orders, rel=0.05)
        total = sum(len(one.value) + added for one in lines) / orders
        assert float(size.replace(",", "")) == pytest.approx(total, rel=0.05), name
