"""The style sheets and scripts: one file each, with a name that changes with the content."""

from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class Asset:
    """A file of static/."""

    def __init__(self, name: str) -> None:
        path = FOLDER / name
        self.body = path.read_bytes()
        digest = sha256(self.body)
        self.content_type = _TYPES[path.suffix]
        #: Its path on the listener for operators.
        self.path = f"/static/{path.stem}.{digest.hexdigest()[:12]}{path.suffix}"
        #: Its source in a Content-Security-Policy, for a page that contains it.
        self.csp = f"'sha256-{base64.b64encode(digest.digest()).decode()}'"

    @property
    def text(self) -> str:
        """Its content."""
        return self.body.decode()
