"""Where the autoscaler is on Kubernetes: in the process that holds the controllers' Lease.

The holder's identity carries its address, so that a gateway asks nobody but the API server.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Awaitable, Callable

from kedge.api.scheme import LEASE, SECRET
from kedge.autoscaler.signals_client import Find, Peer
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import AlreadyExists, NotFound
from kedge.lib.errors import KedgeError
from kedge.settings.installation import CONTROLLER

LEASE_NAME = CONTROLLER
TOKEN_SECRET = "kedge-signals"
"""Secret whose key `token` gateways show to the autoscaler."""
SIGNALS_PORT = 9444
_TOKEN_SECONDS = 30.0


class NoLeader(KedgeError):
    """No process leads, or the one that does says no address."""

    reason = "NoLeader"


def make_identity(name: str, address: str, nonce: str) -> str:
    """The identity of a process that is reached at `address` (`host:port`)."""
    return f"{name}_{address}_{nonce}"


def address_of(identity: str) -> str:
    """The address that an identity carries; empty when it carries none."""
    parts = identity.split("_")
    return parts[1] if len(parts) == 3 else ""


def find_leader(cluster: Cluster, namespace: str) -> Find:
    """Finds the autoscaler by the Lease of the controllers in a namespace."""
    token = read_token(cluster, namespace)

    async def find() -> Peer:
        lease = await cluster.get(LEASE, LEASE_NAME, namespace)
        holder = str((lease.get("spec") or {}).get("holderIdentity") or "")
        address = address_of(holder)
        if not address:
            raise NoLeader(
                f"The Lease {namespace}/{LEASE_NAME} is held by {holder or 'nobody'!r},"
                " which says no address.",
                fix="Wait for a `kedge controller` to lead, or look at why none runs.",
            )
        return Peer(address, await token())

    return find


def read_token(cluster: Cluster, namespace: str) -> Callable[[], Awaitable[str]]:
    """Reads the token that gateways and autoscaler share, now and then anew."""
    read_at, held = float("-inf"), ""

    async def read() -> str:
        nonlocal read_at, held
        if time.monotonic() - read_at >= _TOKEN_SECONDS:
            held, read_at = (
                _token_of(await cluster.get(SECRET, TOKEN_SECRET, namespace)),
                time.monotonic(),
            )
        return held

    return read


async def ensure_token(cluster: Cluster, namespace: str) -> None:
    """Make the shared token where there is none."""
    try:
        await cluster.get(SECRET, TOKEN_SECRET, namespace)
    except NotFound:
        try:
            await cluster.create(SECRET, make_token_secret(namespace))
        except AlreadyExists:
            return


def make_token_secret(namespace: str) -> Object:
    """The Secret with a token that nobody has seen yet."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": TOKEN_SECRET,
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "kedge",
                "app.kubernetes.io/part-of": "kedge",
            },
        },
        "type": "Opaque",
        "data": {"token": base64.b64encode(secrets.token_urlsafe(32).encode()).decode()},
    }


def _token_of(secret: Object) -> str:
    metadata = secret["metadata"]
    try:
        token = base64.b64decode((secret.get("data") or {}).get("token") or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        token = ""
    if not token:
        raise KedgeError(
            f"The Secret {metadata['namespace']}/{metadata['name']} holds no `token`.",
            fix="Delete it and restart the controller, which makes a new one.",
        )
    return token
