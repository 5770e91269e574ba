"""Settings of the orders service: variables GROUPBUY_ORDERS_*. Must hold nothing but values."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic_settings import SettingsConfigDict

from chassis.settings import HostPort, Instance, ServiceSettings


class OrdersSettings(ServiceSettings):
    """The chassis' settings with the defaults of this service."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_ORDERS_")
    service: ClassVar[str] = "orders"

    listen: HostPort = "127.0.0.1:50051"
    state_dir: Path = Path(".run/state/orders")
    instance: Instance = "orders-0"
