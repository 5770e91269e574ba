"""The setting that names the payment providers of an installation."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from shared_kernel.payment_providers import CAPABILITIES, DEFAULT_PROVIDERS


def provider_names(setting: str) -> tuple[str, ...]:
    """The names in the setting. Raises ValueError for an unknown one."""
    names = tuple(dict.fromkeys(name.strip() for name in setting.split(",")))
    unknown = [name for name in names if name not in CAPABILITIES]
    if unknown:
        known = ", ".join(CAPABILITIES)
        raise ValueError(f"must name payment providers, separated by commas, of {known}; unknown: {unknown[0][:50]!r}")
    return names


def _validated(setting: str) -> str:
    return ",".join(provider_names(setting))


#: Names of payment providers, separated by commas.
ProviderNames = Annotated[str, AfterValidator(_validated)]
DEFAULT = ",".join(DEFAULT_PROVIDERS)
