"""What the product is made of, as processes: the simulated provider and the three services, and how topics are made.

The only place in deploy/ that knows their names and variables. Starts nothing.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SERVICES = ("orders", "groups", "payments")
PROVIDER = "provider"
# Calls get so long to finish when a service drains, and its processors as long again.
_DRAIN_S = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """What a child needs to know of the stack: the broker, a directory for its data, and its own gRPC address."""

    kafka: str
    data: Path
    endpoints: Mapping[str, str]
    #: Signs share links, in hexadecimal; another one each time.
    link_key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)


@dataclass(frozen=True, slots=True)
class Child:
    """One process: its command, and its environment laid over the supervisor's."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    #: Whether it answers gRPC health checks at its endpoint; else it counts as serving while it runs.
    health: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """A set of processes: `first` are started before `then`, and stopped after them."""

    #: The command that makes the topics, for a broker and a number of partitions; None: there are none to make.
    topics: Callable[[str, int], Sequence[str]] | None
    first: Mapping[str, Callable[[Layout], Child]]
    then: Mapping[str, Callable[[Layout], Child]]


def _topics(kafka: str, partitions: int) -> Sequence[str]:
    create = ("topics", "create", "--kafka", kafka, "--partitions", str(partitions), "--replication", "1")
    return (sys.executable, "-m", "ops.main", *create)


def _provider(layout: Layout) -> Child:
    environment = {
        "GROUPBUY_SIMPROVIDER_LISTEN": layout.endpoints[PROVIDER],
        "GROUPBUY_SIMPROVIDER_DATABASE": str(layout.data / "provider.sqlite"),
    }
    return Child(PROVIDER, (sys.executable, "-m", "services.payments.providers.simulated"), environment)


def _service(name: str) -> Callable[[Layout], Child]:
    def child(layout: Layout) -> Child:
        prefix = f"GROUPBUY_{name.upper()}_"
        environment = {
            "KAFKA": layout.kafka,
            "LISTEN": layout.endpoints[name],
            "STATE_DIR": str(layout.data / "state" / name),
            "INSTANCE": f"{name}-0",
            "DRAIN_SECONDS": str(_DRAIN_S),
        }
        if name in {"orders", "groups"}:
            environment["LINK_KEYS"] = f"local:{layout.link_key}"
        if name == "payments":
            environment["PROVIDER"] = layout.endpoints[PROVIDER]
        prefixed = {prefix + key: value for key, value in environment.items()}
        return Child(name, (sys.executable, "-m", f"services.{name}"), prefixed)

    return child


PRODUCT = Plan(topics=_topics, first={PROVIDER: _provider}, then={name: _service(name) for name in SERVICES})
