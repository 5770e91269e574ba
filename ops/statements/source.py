"""Where a statement comes from: the value of --statement.

`stripe:FILE` and `wechat:FILE` are reports of those providers, `stripe:api` reads Stripe's API with $STRIPE_API_KEY. A
FILE without a provider has one line per hold.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ops.errors import CANNOT_RUN, OpsError
from ops.security import environments
from ops.statements import holds_file, stripe_api, stripe_report, wechat_bill
from ops.statements.collected import Statement
from ops.statements.rows import check_sha1

HELP = (
    "A statement in place of the provider's own: stripe:FILE (report), stripe:api, wechat:FILE (bill; with #sha1=… its "
    "digest is checked), or FILE (CSV with a line per hold)."
)
_SHA1 = re.compile(r"(.+)#sha1=([0-9A-Fa-f]{40})")


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed value of --statement."""

    #: stripe or wechat; empty for a file with a line per hold.
    provider: str
    #: None: the provider's API.
    path: Path | None
    #: SHA-1 of the uncompressed file; empty: not checked.
    sha1: str = ""


def parse(given: str) -> Source:
    """Parses a value of --statement. Raises OpsError."""
    provider, colon, rest = given.partition(":")
    if not colon or provider not in {"stripe", "wechat"}:
        return Source("", Path(given))
    if rest == "api":
        if provider == "wechat":
            raise OpsError("WeChat Pay's bills are files: download one, and use --statement wechat:FILE", CANNOT_RUN)
        return Source(provider, None)
    if not rest:
        raise OpsError(f"--statement {given} names no file", CANNOT_RUN)
    found = _SHA1.fullmatch(rest)
    return Source(provider, Path(found[1]), found[2]) if found else Source(provider, Path(rest))


async def read(source: Source, since_ms: int = 0, until_ms: int = 0) -> Statement:
    """Reads a statement as a stream, without the payments of other deployments. Raises OpsError with line and column.

    The totals are those of the whole account, which the deployments share.
    """
    found = await _read(source, since_ms, until_ms)
    ours = environments()
    if ours is not None:
        found.entries = {hold: entry for hold, entry in found.entries.items() if entry.environment in ours}
    return found


async def _read(source: Source, since_ms: int, until_ms: int) -> Statement:
    made = Statement(source.provider)
    if source.path is None:
        key = os.environ.get("STRIPE_API_KEY", "")
        if not key.strip():
            raise OpsError("$STRIPE_API_KEY is missing: a restricted key that reads balance transactions", CANNOT_RUN)
        base = os.environ.get("STRIPE_API_BASE") or stripe_api.API
        async for movement in stripe_api.movements(key.strip(), base, since_ms, until_ms):
            made.take(movement)
        return made
    if source.sha1:
        check_sha1(source.path, source.sha1)
    if source.provider == "stripe":
        return made.take_all(stripe_report.movements(source.path))
    if source.provider == "wechat":
        return made.take_all(wechat_bill.movements(source.path))
    return Statement("", money_only=False, entries={one.hold: one for one in holds_file.read(source.path)})
