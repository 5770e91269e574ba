"""The setting with the keys of share links."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, SecretStr

from shared_kernel.share_links import Keys


def _validated(keys: SecretStr) -> SecretStr:
    Keys.parse(keys.get_secret_value())
    return keys


#: Keys of share links, `kid:hex,kid2:hex`: the first signs, all verify. Empty: share links are turned off.
LinkKeys = Annotated[SecretStr, AfterValidator(_validated)]
