"""The headers of every response. A page may load what it names from its own listener, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

_COMMON = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cache-Control": "no-store",
}


def policy(*, style: str = "'self'", script: str = "'self'", forms: str = "'none'") -> str:
    """A Content-Security-Policy. `style` and `script` are sources: 'self', or the hash of what a page contains."""
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src 'self'; "
        f"form-action {forms}; base-uri 'none'; frame-ancestors 'none'"
    )


OPERATORS: Mapping[str, str] = {**_COMMON, "Content-Security-Policy": policy(forms="'self'")}
#: The policy of what is no page: pictures, events and errors.
NOTHING: Mapping[str, str] = {**_COMMON, "Content-Security-Policy": policy(style="'none'", script="'none'")}


def share_page(style: str, script: str) -> Mapping[str, str]:
    """The headers of a share page, which contains its style and its script."""
    return {
        **_COMMON,
        # A chat's preview picture is fetched from other pages.
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Content-Security-Policy": policy(style=style, script=script),
        "X-Robots-Tag": "noindex, nofollow",
    }
