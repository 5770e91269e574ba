"""The addresses of `make up`: fixed ports by default, and the variables that name the addresses for shells."""

from __future__ import annotations

from collections.abc import Mapping

from devstack.product import CONSOLE, METRICS, PROVIDER, PROVIDER_HTTP, SERVICES, SHARE, WEBHOOKS

KAFKA = "kafka"
#: All addresses, in the order of their default ports.
NAMES = (KAFKA, *SERVICES, PROVIDER, PROVIDER_HTTP, WEBHOOKS, *METRICS, CONSOLE, SHARE)
#: The port of the first name. The range is below those of free ports and of clients' ends of connections.
FIRST_PORT = 15_050
FREE = "free"
_LAST = 65_535


class BadPorts(ValueError):
    """The text chooses no ports. The message says what to write."""


def choose(text: str = "") -> dict[str, int]:
    """Ports by name. A name without a port gets a free one.

    `text` is `free`; the first of twelve consecutive ports; or `name=port,name=port`, which replaces some of the
    default ports. Raises BadPorts.
    """
    if text == FREE:
        return {}
    if not text or text.isdecimal():
        first = int(text) if text else FIRST_PORT
        last = _LAST - len(NAMES) + 1
        if not 0 < first <= last:
            raise BadPorts(f"the first port must be 1 to {last}, not {text}")
        return {name: first + number for number, name in enumerate(NAMES)}
    ports = choose()
    for part in text.split(","):
        name, _, port = (word.strip() for word in part.partition("="))
        if name not in NAMES or not port.isdecimal() or not 0 < int(port) <= _LAST:
            known = ", ".join(NAMES)
            raise BadPorts(f"{text!r} is neither `{FREE}`, nor a port, nor name=port with a name of {known}")
        ports[name] = int(port)
    if len(set(ports.values())) < len(ports):
        raise BadPorts(f"{text!r} gives two addresses the same port")
    return ports


def variables(kafka: str, endpoints: Mapping[str, str]) -> dict[str, str]:
    """host:port of each address by the name of its variable, for example ORDERS_AT."""
    return {f"{name.upper().replace('-', '_')}_AT": address for name, address in {KAFKA: kafka, **endpoints}.items()}
