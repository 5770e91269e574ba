"""What the product is made of, as processes: the simulated provider and the three services, and how topics are made.

The only place in devstack/ that knows their names and variables. Starts nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from groupbuy_settlement import command

SERVICES = ("orders", "groups", "payments")
PROVIDER = "provider"
#: Where the provider speaks the wires of real ones, and where payments takes what those tell by themselves.
PROVIDER_HTTP, WEBHOOKS = "provider_http", "payments_webhooks"
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
    #: What the provider signs its notifications with, and our key at its Stripe; others each time.
    notify_secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    stripe_key: str = field(default_factory=lambda: f"sk_test_{secrets.token_hex(16)}", repr=False)

    @property
    def wechat_keys(self) -> Path:
        """The directory with the keys of our account at the provider's WeChat Pay."""
        return self.data / "wechat_keys"


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
    #: Names of addresses that are needed beside one for each process.
    more: tuple[str, ...] = ()
    #: The command that says at a broker which asks who comes who may do what; None: there is none.
    rights: Callable[[str], Sequence[str]] | None = None
    #: What has to be there before anything is started.
    prepare: Callable[[Layout], None] | None = None
    #: One more process of a service, by its name and number; None: there is never more than one of each.
    replica: Callable[[str, int], Callable[[Layout], Child]] | None = None


def _topics(kafka: str, partitions: int) -> Sequence[str]:
    create = ("topics", "create", "--kafka", kafka, "--partitions", str(partitions), "--replication", "1")
    return command("ops.main", *create)


def _prepare(layout: Layout) -> None:
    # Heavy to load, and wanted only where the product itself is started.
    from simulators.psp.wechat.signer import Seal

    Seal(layout.wechat_keys)


def _provider(layout: Layout) -> Child:
    told = {
        "LISTEN": layout.endpoints[PROVIDER],
        "HTTP_LISTEN": layout.endpoints[PROVIDER_HTTP],
        "DATABASE": str(layout.data / "provider.sqlite"),
        "NOTIFY_URL": f"http://{layout.endpoints[WEBHOOKS]}/webhooks",
        "NOTIFY_SECRET": layout.notify_secret,
        "STRIPE_KEY": layout.stripe_key,
        "STRIPE_WEBHOOK_SECRET": layout.notify_secret,
        "WECHAT_KEYS": str(layout.wechat_keys),
    }
    environment = {f"GROUPBUY_SIMPROVIDER_{key}": value for key, value in told.items()}
    return Child(PROVIDER, command("simulators.psp"), environment)


def replica_name(service: str, number: int) -> str:
    """Name of a service's process: the first, number 0, has the name of the service."""
    return f"{service}-{number}" if number else service


def _service(name: str, number: int = 0) -> Callable[[Layout], Child]:
    process = replica_name(name, number)

    def child(layout: Layout) -> Child:
        prefix = f"GROUPBUY_{name.upper()}_"
        environment = {
            "KAFKA": layout.kafka,
            "LISTEN": layout.endpoints[process],
            "STATE_DIR": str(layout.data / "state" / process),
            "INSTANCE": f"{name}-{number}",
            "DRAIN_SECONDS": str(_DRAIN_S),
            "INSECURE": "true",
        }
        if name in {"orders", "groups"}:
            environment["LINK_KEYS"] = f"local:{layout.link_key}"
        if name == "payments":
            environment |= _accounts(layout)
            if number:
                # What the provider tells by itself goes to the first.
                environment["WEBHOOK_LISTEN"] = "127.0.0.1:0"
        prefixed = {prefix + key: value for key, value in environment.items()}
        return Child(process, command(f"services.{name}"), prefixed)

    return child


def _accounts(layout: Layout) -> Mapping[str, str]:
    """Our accounts at the provider, by each of the wires that it speaks."""
    from simulators.psp.wechat import signer

    http, webhooks = layout.endpoints[PROVIDER_HTTP], layout.endpoints[WEBHOOKS]
    return {
        "PROVIDER": layout.endpoints[PROVIDER],
        "PROVIDER_NOTIFY_SECRET": layout.notify_secret,
        "WEBHOOK_LISTEN": webhooks,
        "STRIPE_KEY": layout.stripe_key,
        "STRIPE_API_BASE": f"http://{http}",
        "STRIPE_WEBHOOK_SECRET": layout.notify_secret,
        "WECHAT_MERCHANT": signer.MERCHANT,
        "WECHAT_APP": signer.APP,
        "WECHAT_SERIAL": signer.MERCHANT_SERIAL,
        "WECHAT_PRIVATE_KEY": str(layout.wechat_keys / "merchant_private.pem"),
        "WECHAT_PLATFORM_SERIAL": signer.PLATFORM_SERIAL,
        "WECHAT_PLATFORM_KEY": str(layout.wechat_keys / "platform_public.pem"),
        "WECHAT_APIV3_KEY": (layout.wechat_keys / "apiv3_key").read_text(encoding="utf-8"),
        "WECHAT_API_BASE": f"http://{http}",
        "WECHAT_NOTIFY_URL": f"http://{webhooks}/webhooks/wechat",
    }


PRODUCT = Plan(
    topics=_topics,
    rights=lambda kafka: command("ops.main", "acls", "apply", "--kafka", kafka),
    first={PROVIDER: _provider},
    then={name: _service(name) for name in SERVICES},
    more=(PROVIDER_HTTP, WEBHOOKS),
    prepare=_prepare,
    replica=_service,
)
