"""Settings of the payments service: variables GROUPBUY_PAYMENTS_*. Must hold nothing but values."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic_settings import SettingsConfigDict

from chassis.settings import HostPort, Instance, ServiceSettings


class PaymentsSettings(ServiceSettings):
    """The chassis' settings with the defaults of this service, and where the payment provider is."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_PAYMENTS_")
    service: ClassVar[str] = "payments"

    listen: HostPort = "127.0.0.1:50053"
    state_dir: Path = Path(".run/state/payments")
    instance: Instance = "payments-0"
    #: The simulated provider.
    provider: HostPort = "127.0.0.1:50054"
