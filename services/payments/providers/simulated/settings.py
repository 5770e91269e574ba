"""Settings of the simulated provider, from environment variables GROUPBUY_SIMPROVIDER_*. Reads nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Milliseconds = Annotated[int, Field(ge=0)]
#: The bounds that the proto sets for a Behaviour.
Latency = Annotated[int, Field(ge=0, le=60_000)]
PerMille = Annotated[int, Field(ge=0, le=1000)]


class Settings(BaseSettings):
    """How the provider runs. What the Configure call sets later is forgotten at a restart: these hold again."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_SIMPROVIDER_")

    #: host:port; port 0 takes a free one, which the first line of the log names.
    listen: Annotated[str, Field(pattern=r"^.+:\d+$")] = "127.0.0.1:50054"
    #: The SQLite file that holds the books; made if missing.
    database: Path = Path(".run/state/simprovider/books.sqlite")
    latency_min_ms: Latency = 0
    latency_max_ms: Latency = 0
    #: How long holds live; 0: seven days.
    hold_life_ms: Milliseconds = 0
    fail_before_per_mille: PerMille = 0
    fail_after_per_mille: PerMille = 0
    #: How long calls under way may take to end after SIGTERM.
    drain_seconds: Annotated[float, Field(ge=0)] = 10.0

    @model_validator(mode="after")
    def _latency_is_a_range(self) -> Self:
        if self.latency_min_ms > self.latency_max_ms:
            raise ValueError("latency_min_ms is above latency_max_ms")
        return self
