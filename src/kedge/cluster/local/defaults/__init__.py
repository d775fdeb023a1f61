"""What a Kubernetes API server fills in: the same fields, the same values, for the core kinds.

Kedge's own kinds are stored as they were sent. Functions change the object they are given; applied
twice they change nothing more.
"""

from __future__ import annotations

from collections.abc import Callable

from kedge.api.scheme import (
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    ENDPOINTS,
    EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    REPLICA_SET,
    SECRET,
    SERVICE,
    Kind,
)
from kedge.cluster.base import Object
from kedge.cluster.local.defaults import plain, pods, routes, services, workloads

_DEFAULTS: dict[Kind, Callable[[Object], None]] = {
    CONFIG_MAP: plain.default_config_map,
    DEPLOYMENT: workloads.default_deployment,
    ENDPOINTS: services.default_endpoints,
    ENDPOINT_SLICE: services.default_endpoint_slice,
    EVENT: plain.default_event,
    HORIZONTAL_POD_AUTOSCALER: workloads.default_autoscaler,
    HTTP_ROUTE: routes.default_http_route,
    NAMESPACE: plain.default_namespace,
    PERSISTENT_VOLUME_CLAIM: plain.default_volume_claim,
    POD: pods.default_pod,
    REPLICA_SET: workloads.default_replica_set,
    SECRET: plain.default_secret,
    SERVICE: services.default_service,
}


def set_defaults(kind: Kind, obj: Object) -> None:
    """Fill in what the client left open."""
    default = _DEFAULTS.get(kind)
    if default is not None:
        default(obj)
