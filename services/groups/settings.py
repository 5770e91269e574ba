"""Settings of the groups service: variables GROUPBUY_GROUPS_*. Must hold nothing but values."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic_settings import SettingsConfigDict

from chassis.settings import HostPort, Instance, ServiceSettings


class GroupsSettings(ServiceSettings):
    """The chassis' settings with the defaults of this service."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_GROUPS_")
    service: ClassVar[str] = "groups"

    listen: HostPort = "127.0.0.1:50052"
    state_dir: Path = Path(".run/state/groups")
    instance: Instance = "groups-0"
