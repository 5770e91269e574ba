"""The setting with the keys of share links."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, SecretStr

from shared_kernel.share_links.share_link_token import Keys


def keys_of(setting: SecretStr) -> Keys:
    """The keys in the setting. Raises ValueError."""
    return Keys.parse(setting.get_secret_value())


def _validated(setting: SecretStr) -> SecretStr:
    keys_of(setting)
    return setting


#: Keys of share links, `kid:hex,kid2:hex`: the first signs, all verify. Empty: share links are turned off.
LinkKeys = Annotated[SecretStr, AfterValidator(_validated)]
