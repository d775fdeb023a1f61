"""One of Envoy's configuration resources, packed as it goes over the wire."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

_PREFIX = "type.googleapis.com/envoy.config."
CLUSTER = _PREFIX + "cluster.v3.Cluster"
ENDPOINT = _PREFIX + "endpoint.v3.ClusterLoadAssignment"
LISTENER = _PREFIX + "listener.v3.Listener"
ROUTE = _PREFIX + "route.v3.RouteConfiguration"

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
"""Type URLs, in the order in which a change is made known to Envoy."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A named resource.

    Attributes:
        version: hash of the content, so that an unchanged resource keeps its version over a restart
            and is not sent again.
        body: the packed message.
        addresses: where a ClusterLoadAssignment sends to; empty for other types.
    """

    name: str
    version: str
    body: bytes
    addresses: frozenset[str] = frozenset()


def make_resource(name: str, message: Any, addresses: frozenset[str] = frozenset()) -> Resource:
    body: bytes = message.SerializeToString(deterministic=True)
    return Resource(name, hashlib.blake2b(body, digest_size=8).hexdigest(), body, addresses)
