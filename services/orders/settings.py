"""Settings of the orders service: environment variables GROUPBUY_ORDERS_*."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.lifecycle.settings import HostPort, Instance, ServiceSettings
from shared_kernel.provider_settings import DEFAULT as DEFAULT_PROVIDERS
from shared_kernel.provider_settings import ProviderNames
from shared_kernel.share_links.share_link_settings import LinkKeys


class OrdersSettings(ServiceSettings):
    """The chassis' settings, with defaults and settings of this service."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_ORDERS_")
    service: ClassVar[str] = "orders"

    listen: HostPort = "127.0.0.1:50051"
    state_dir: Path = Path(".run/state/orders")
    instance: Instance = "orders-0"
    #: The keys of share links, as the groups service has them; they verify the share tokens of orders. Empty: orders
    #: with a share token are refused.
    link_keys: LinkKeys = SecretStr("")
    #: Payment providers of this installation, of simulated, stripe and wechat, separated by commas. Orders with payment
    #: methods of other providers are refused. The simulated one moves no money.
    providers: ProviderNames = DEFAULT_PROVIDERS
    #: Whether the outcome of each order is written to orders.outcome.v1, for other systems, from the committed offsets
    #: on. All processes of the service need the same value.
    outcomes: bool = False
    #: Whether orders that would open groups of a sold-out stock item are refused at once. For installations that run
    #: the inventory service.
    inventory: bool = False
