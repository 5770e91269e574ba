"""Settings of the inventory service: environment variables GROUPBUY_INVENTORY_*."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic_settings import SettingsConfigDict

from chassis.lifecycle.settings import HostPort, Instance, ServiceSettings


class InventorySettings(ServiceSettings):
    """The chassis' settings, with defaults of this service."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_INVENTORY_")
    service: ClassVar[str] = "inventory"

    listen: HostPort = "127.0.0.1:50055"
    state_dir: Path = Path(".run/state/inventory")
    instance: Instance = "inventory-0"
