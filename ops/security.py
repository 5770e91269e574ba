"""How the command line is let in at a broker that asks who comes: variables GROUPBUY_OPS_KAFKA_*, and nothing else.

Without a user, none is needed: that is how a stack on one's own machine works.
"""

from __future__ import annotations

import os
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from chassis.auth_settings import SENTENCE, KafkaSettings
from chassis.redaction import REDACTED, is_secret
from eventlog.security import Kafka
from ops.errors import USAGE, OpsError


class OpsSettings(KafkaSettings):
    """The command line's user at Kafka."""

    model_config = SettingsConfigDict(env_prefix="GROUPBUY_OPS_", frozen=True, extra="ignore")

    insecure: bool = True


def cluster(address: str) -> Kafka:
    """The brokers at an address, host:port[,…], with what the environment says about us. Raises OpsError."""
    user, security = (OpsSettings.variable(name) for name in ("kafka_user", "kafka_security"))
    try:
        if os.environ.get(user) and not os.environ.get(security):
            return OpsSettings(kafka_security="SASL_SSL").cluster(address)
        return OpsSettings().cluster(address)
    except ValidationError as error:
        raise OpsError("; ".join(_sentence(dict(one)) for one in error.errors(include_url=False)), USAGE) from None


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] == SENTENCE:
        return str(error["msg"])
    name = OpsSettings.variable(".".join(map(str, error["loc"])))
    value = REDACTED if is_secret(name) else repr(error["input"])
    return f"{name} is {value}: {error['msg']}"
