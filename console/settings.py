"""Settings of the console: environment variables GROUPBUY_CONSOLE_*.

It reads Kafka with the credentials of the command line, GROUPBUY_OPS_*.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, FilePath
from pydantic_settings import SettingsConfigDict

from chassis.identity.access_settings import SecuritySettings
from chassis.identity.peer_identity import SpiffeId
from chassis.lifecycle.settings import HostPort, HostPorts, MaybeHostPort


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class ConsoleSettings(SecuritySettings):
    """The settings of the process."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_CONSOLE_", frozen=True, extra="ignore")
    service: ClassVar[str] = "console"

    #: Kafka's bootstrap servers. The credentials are those of the command line, GROUPBUY_OPS_*.
    kafka: HostPorts = "127.0.0.1:9092"
    #: Address of the pages for operators. Without `operators_file` it has to be an address of this machine alone.
    listen: HostPort = "127.0.0.1:50060"
    #: Address of the public share page. Empty: none.
    share_listen: MaybeHostPort = ""
    #: Address of the HTTP port with /metrics, /live, /ready and /startup. Empty: nothing is served.
    metrics_listen: MaybeHostPort = ""
    #: Address of the groups service.
    groups: HostPort = "127.0.0.1:50052"
    #: Address of the payments service.
    payments: HostPort = "127.0.0.1:50053"
    #: Address of the inventory service; the live page then shows the pieces of campaigns with stock. Empty: it is off.
    inventory: MaybeHostPort = ""
    #: Addresses of the /metrics ports of the services, separated by commas; the page Health then shows the age of the
    #: checkpoints. Empty: it does not.
    service_metrics: str = Field(default="", max_length=10_000)
    #: SPIFFE id of the groups service.
    groups_identity: SpiffeId = "spiffe://groupbuy.internal/service/groups"
    #: SPIFFE id of the payments service.
    payments_identity: SpiffeId = "spiffe://groupbuy.internal/service/payments"
    #: SPIFFE id of the inventory service.
    inventory_identity: SpiffeId = "spiffe://groupbuy.internal/service/inventory"
    #: PEM file: the certificate of the share page's own identity. `tls_ca` verifies its servers too.
    share_tls_certificate: FilePath | None = None
    #: PEM file: the key of the share page's certificate.
    share_tls_key: FilePath | None = None
    #: Directory of the folded logs. Losing it loses no data: the logs are folded again.
    state_dir: Path = Path(".run/state/console")
    #: File with a line for each operator, which `python -m console.web.passwords NAME` prints. With it,
    #: every page for operators needs a name and a password. Without it, the page Repair is off.
    operators_file: FilePath | None = None
    #: Base of the addresses of share pages, which chats fetch the preview picture from: scheme and host, such as
    #: https://go.example. By default the address of the listener.
    public_url: str = Field(default="", max_length=500)
    #: Address of the shop's page that joins a group. {group}, {campaign} and {share_token} are replaced.
    join_url: str = Field(default="https://shop.example/join?group={group}&link={share_token}", max_length=1_000)
    #: TrueType file with Chinese characters for preview pictures. Without it their texts are Latin letters and figures.
    picture_font: FilePath | None = None
    #: Statements to reconcile with, `[provider=]address or file`, separated by commas. Empty: none.
    statements: str = ""
    #: Seconds between two comparisons with a statement.
    statement_every_seconds: float = Field(default=3600.0, ge=1)
    #: File of `groupbuy-ops ledger roots`. Empty: none.
    roots: Path | None = None
    #: Limit of open streams of events, of both listeners together.
    max_streams: int = Field(default=2_500, ge=1)
    #: The least severe entries that are logged.
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    #: Format of the log: one JSON object a line, or text for a terminal.
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = "json"
