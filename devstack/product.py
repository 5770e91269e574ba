"""The product as processes: the simulated provider, the three services, and the commands that create topics and ACLs.

The only module of devstack that has their names and environment variables. Starts nothing.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from devstack.supervision import private_files
from groupbuy_settlement import command

SERVICES = ("orders", "groups", "payments")
#: The service of stock and limits, which only the plan WITH_INVENTORY starts.
INVENTORY = "inventory"
PROVIDER = "provider"
#: The addresses of the provider's HTTP interfaces (Stripe, WeChat Pay), and of the payments service's webhooks.
PROVIDER_HTTP, WEBHOOKS = "provider_http", "payments_webhooks"
#: The addresses of the services' metrics and probes.
METRICS = tuple(f"{service}_metrics" for service in SERVICES)
#: The addresses of the console's pages for operators, and of the public page of share links.
CONSOLE, SHARE = "console", "share"
# A draining service waits this long for its calls, and as long again for its processors.
_DRAIN_S = 3
#: The generated fields of a layout.
_SECRETS = ("link_key", "notify_secret", "stripe_key")


@dataclass(frozen=True, slots=True)
class Layout:
    """The settings of one stack: the broker, the data directory, all addresses, and the shared secrets."""

    kafka: str
    data: Path
    endpoints: Mapping[str, str]
    #: The key that signs share links, in hexadecimal.
    link_key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    #: The secret of the provider's notifications, and our Stripe key.
    notify_secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    stripe_key: str = field(default_factory=lambda: f"sk_test_{secrets.token_hex(16)}", repr=False)

    @classmethod
    def of(cls, kafka: str, data: Path, endpoints: Mapping[str, str]) -> Layout:
        """The layout of a data directory, with its secrets, which are generated once: old share links stay valid."""
        private_files.directory(data)
        file = data / "secrets.json"
        if file.exists():
            return cls(kafka, data, endpoints, **json.loads(file.read_text(encoding="utf-8")))
        made = cls(kafka, data, endpoints)
        private_files.replace(file, json.dumps({name: getattr(made, name) for name in _SECRETS}).encode())
        return made

    @property
    def wechat_keys(self) -> Path:
        """The directory with the keys of our WeChat Pay account."""
        return self.data / "wechat_keys"


@dataclass(frozen=True, slots=True)
class Child:
    """One process: its command, and the variables that are added to the supervisor's environment."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    #: Whether it answers gRPC health checks. Without them the process counts as serving while it runs.
    health: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """A set of processes: those of `first` start before those of `then`, and stop after them."""

    #: The command that creates the topics, from broker and number of partitions; None if there are no topics.
    topics: Callable[[str, int], Sequence[str]] | None
    first: Mapping[str, Callable[[Layout], Child]]
    then: Mapping[str, Callable[[Layout], Child]]
    #: Names of addresses in addition to one for each process.
    extra_addresses: tuple[str, ...] = ()
    #: The command that creates the ACLs on a secured broker, or None.
    acls: Callable[[str], Sequence[str]] | None = None
    #: Creates the files that the processes need at their start.
    prepare: Callable[[Layout], None] | None = None
    #: Makes a further process of a service, from its name and number; None if services have one process each.
    replica: Callable[[str, int], Callable[[Layout], Child]] | None = None


def _topics(kafka: str, partitions: int) -> Sequence[str]:
    create = ("topics", "create", "--kafka", kafka, "--partitions", str(partitions), "--replication", "1")
    return command("ops.main", *create)


def _prepare(layout: Layout) -> None:
    # Slow to import, and needed only to start the product itself.
    from simulators.psp.wechat.signer import Signer

    Signer(layout.wechat_keys)


def _provider(layout: Layout) -> Child:
    settings = {
        "LISTEN": layout.endpoints[PROVIDER],
        "HTTP_LISTEN": layout.endpoints[PROVIDER_HTTP],
        "DATABASE": str(layout.data / "provider.sqlite"),
        "NOTIFY_URL": f"http://{layout.endpoints[WEBHOOKS]}/webhooks",
        "NOTIFY_SECRET": layout.notify_secret,
        "STRIPE_KEY": layout.stripe_key,
        "STRIPE_WEBHOOK_SECRET": layout.notify_secret,
        "WECHAT_KEYS": str(layout.wechat_keys),
    }
    environment = {f"GROUPBUY_SIMPROVIDER_{key}": value for key, value in settings.items()}
    return Child(PROVIDER, command("simulators.psp"), environment)


def replica_name(service: str, number: int) -> str:
    """The name of a service's process. Process 0 has the name of the service."""
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
        if (metrics := layout.endpoints.get(f"{process}_metrics")) is not None:
            environment["METRICS_LISTEN"] = metrics
        if name in {"orders", "groups"}:
            environment["LINK_KEYS"] = f"local:{layout.link_key}"
            environment["PROVIDERS"] = "simulated,stripe,wechat"
        if name == "groups" and SHARE in layout.endpoints:
            environment["LINK_BASE_URL"] = f"http://{layout.endpoints[SHARE]}/s/"
        if name == "payments":
            environment |= _accounts(layout)
            if number:
                # The provider sends its notifications to the first process.
                environment["WEBHOOK_LISTEN"] = "127.0.0.1:0"
        prefixed = {prefix + key: value for key, value in environment.items()}
        return Child(process, command(f"services.{name}"), prefixed)

    return child


def _accounts(layout: Layout) -> Mapping[str, str]:
    """Settings of our accounts at the provider: gRPC, Stripe and WeChat Pay."""
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


def _console(layout: Layout) -> Child:
    settings = {
        "KAFKA": layout.kafka,
        "LISTEN": layout.endpoints[CONSOLE],
        "SHARE_LISTEN": layout.endpoints[SHARE],
        "GROUPS": layout.endpoints["groups"],
        "PAYMENTS": layout.endpoints["payments"],
        "STATE_DIR": str(layout.data / "state" / CONSOLE),
        "SERVICE_METRICS": ",".join(layout.endpoints[one] for one in METRICS),
        "STATEMENTS": layout.endpoints[PROVIDER],
        "STATEMENT_EVERY_SECONDS": "60",
        "INSECURE": "true",
    }
    if INVENTORY in layout.endpoints:
        settings["INVENTORY"] = layout.endpoints[INVENTORY]
    environment = {f"GROUPBUY_CONSOLE_{key}": value for key, value in settings.items()}
    return Child(CONSOLE, command("console"), environment, health=False)


PRODUCT = Plan(
    topics=_topics,
    acls=lambda kafka: command("ops.main", "acls", "apply", "--kafka", kafka),
    first={PROVIDER: _provider},
    then={name: _service(name) for name in SERVICES},
    extra_addresses=(PROVIDER_HTTP, WEBHOOKS, *METRICS),
    prepare=_prepare,
    replica=_service,
)


def _with_inventory(service: str) -> Callable[[Layout], Child]:
    def child(layout: Layout) -> Child:
        made = _service(service)(layout)
        return replace(made, environment={**made.environment, f"GROUPBUY_{service.upper()}_INVENTORY": "true"})

    return child


#: The product with stock and limits per customer.
WITH_INVENTORY = replace(
    PRODUCT,
    then={
        **PRODUCT.then,
        **{service: _with_inventory(service) for service in ("orders", "groups")},
        INVENTORY: _service(INVENTORY),
    },
)
#: The product with its console, as `make up` runs it.
WITH_CONSOLE = replace(
    PRODUCT,
    then={**PRODUCT.then, CONSOLE: _console},
    extra_addresses=(*PRODUCT.extra_addresses, SHARE),
)
#: The product with stock and its console.
WITH_STOCK_AND_CONSOLE = replace(
    WITH_INVENTORY,
    then={**WITH_INVENTORY.then, CONSOLE: _console},
    extra_addresses=(*WITH_INVENTORY.extra_addresses, SHARE),
)
