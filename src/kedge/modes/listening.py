"""The ports of a local Kedge: held from its start on, and told of when they cannot be used.

Between the first look at a port and the moment when Envoy listens on it, a second passes in which
an outgoing connection of any program may be given it; and so in every moment in which Envoy is
being restarted. So the supervisor holds them. A server that takes one all the same is named.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kedge.lib import ports
from kedge.lib.errors import KedgeError
from kedge.settings.local import LocalSettings

CHOICE = range(20_000, 30_000)
"""Where the ports are chosen that nobody has named."""
_AGAIN = "end what holds it"
_CANNOT_BIND = re.compile(r"cannot (?:bind|listen on) '([^']+):(\d+)': ([^\n;]+)")


class PortTaken(KedgeError):
    """A port cannot be listened on."""

    reason = "PortTaken"


@dataclass(frozen=True)
class Door:
    """One of the ports.

    Attributes:
        what: whose it is, as in "The {what} port".
        fix: how another one is chosen.
    """

    what: str
    port: int
    fix: str


def doors(settings: LocalSettings) -> Iterator[Door]:
    """All of them."""
    folder = settings.envoy_dir
    yield Door("gateway's", settings.port, "choose another with --port")
    yield Door("API's", settings.api_port, "choose another with --api-port")
    for what, port, kept in (
        ("pods' proxy", settings.proxy_port, "proxy-port"),
        ("metrics", settings.metrics_port, "metrics-port"),
    ):
        yield Door(what, port, f"start Kedge anew (it then chooses another, in {folder / kept})")


def hold_ports(settings: LocalSettings) -> tuple[LocalSettings, list[socket.socket]]:
    """The settings with all ports chosen, and the sockets that hold these.

    Raises:
        PortTaken: somebody has the gateway's port or the API's.
    """
    held = [_hold(settings, settings.port), _hold(settings, settings.api_port)]
    chosen = {}
    for field, name in (("proxy_port", "proxy-port"), ("metrics_port", "metrics-port")):
        one = _hold_kept(settings, name)
        chosen[field] = int(one.getsockname()[1])
        held.append(one)
    return replace(settings, **chosen), held  # type: ignore[arg-type]  # ints, of two int fields


def taken(settings: LocalSettings, port: int, why: str, host: str = "") -> PortTaken:
    """What is to be said of a port that cannot be listened on."""
    host = host or settings.host
    unknown = Door("", port, "choose another")
    door = next((one for one in doors(settings) if one.port == port), unknown)
    whose = f"The {door.what} port" if door.what else "Port"
    return PortTaken(
        f"{whose} {port} on {host} cannot be used: {why}{ports.holder(host, port)}.",
        fix=f"{_AGAIN.capitalize()}, or {door.fix}.",
    )


def explain(settings: LocalSettings, refusal: str) -> str:
    """What is to be said of listeners that Envoy refuses."""
    found = _CANNOT_BIND.findall(refusal)
    if not found:
        return (
            f"Envoy refuses what it is to listen with: {refusal.strip()}"
            f" Fix: read {settings.logs_dir}/envoy.log."
        )
    return "\n".join(
        str(taken(settings, int(port), why.strip(), host)) for host, port, why in found
    )


def _hold(settings: LocalSettings, port: int) -> socket.socket:
    try:
        return ports.hold(settings.host, port)
    except OSError as error:
        raise taken(settings, port, os.strerror(error.errno or errno.EIO)) from error


def _hold_kept(settings: LocalSettings, name: str) -> socket.socket:
    """A port that is the same after a restart, if it can be: one is in the pods' environment, one
    in somebody's scrape configuration."""
    kept = settings.envoy_dir / name
    try:
        return ports.hold(settings.host, int(kept.read_text()))
    except (OSError, ValueError):
        held = ports.hold_any(settings.host, CHOICE)
    kept.write_text(str(held.getsockname()[1]))
    return held
