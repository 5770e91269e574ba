"""Settings of the groups service: environment variables GROUPBUY_GROUPS_*."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.lifecycle.settings import HostPort, Instance, ServiceSettings
from shared_kernel.provider_settings import DEFAULT as DEFAULT_PROVIDERS
from shared_kernel.provider_settings import ProviderNames
from shared_kernel.share_links.share_link_settings import LinkKeys


class GroupsSettings(ServiceSettings):
    """The chassis' settings, with defaults and settings of this service."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_GROUPS_")
    service: ClassVar[str] = "groups"

    listen: HostPort = "127.0.0.1:50052"
    state_dir: Path = Path(".run/state/groups")
    instance: Instance = "groups-0"
    #: Keys of share links, `kid:hex,kid2:hex`: the first signs, all verify. Remove a key once its last link has
    #: expired. Empty: share links are turned off.
    link_keys: LinkKeys = SecretStr("")
    #: Prefix of the share token in the URL and the QR code of a link; empty for the token alone.
    link_base_url: str = Field(default="", max_length=1_000)
    #: Payment providers of this installation, of simulated, stripe and wechat, separated by commas. A campaign is
    #: refused unless one of them can take its currency, prices and window.
    providers: ProviderNames = DEFAULT_PROVIDERS
    #: Whether this installation runs the inventory service. Without it, campaigns with stock, a limit per customer, or
    #: times of start and end are refused.
    inventory: bool = False
