"""What every local Kedge holds from its first start: configuration, runtimes, the Gateway.

Shipped objects are applied anew at each start, so that a newer Kedge brings its newer ones; what a
person wrote into the configuration stays.
"""

from __future__ import annotations

import json
from typing import Any

from kedge.api.scheme import CONFIG_MAP, GATEWAY, GATEWAY_CLASS, kind_of
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import NotFound
from kedge.install import names
from kedge.install.manifests import shipped
from kedge.settings.local import LocalSettings
from kedge.settings.serving import CONFIG_MAP_NAME

_SHIPPED = ("runtimes", "storagecontainers")


async def seed(cluster: Cluster, settings: LocalSettings) -> None:
    """Bring the store up to date with what this Kedge ships."""
    for folder in _SHIPPED:
        for obj in shipped(folder):
            kind = kind_of(obj)
            assert kind is not None, f"a shipped manifest is of an unknown kind: {obj['kind']}"
            await cluster.apply(kind, obj)
    await cluster.apply(GATEWAY_CLASS, make_gateway_class())
    await cluster.apply(GATEWAY, make_gateway(settings))
    await _configure(cluster, settings)


def make_gateway_class() -> Object:
    """The one that the Gateway names."""
    return {
        "apiVersion": GATEWAY_CLASS.api_version,
        "kind": GATEWAY_CLASS.kind,
        "metadata": {"name": names.GATEWAY_CLASS},
        "spec": {"controllerName": names.GATEWAY_CONTROLLER},
    }


def make_gateway(settings: LocalSettings) -> Object:
    """The Gateway that all of Kedge's HTTPRoutes name as their parent."""
    listener = {
        "name": "http",
        "port": settings.port,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    # Services that are only for the cluster are bound to it; here they are answered like any other.
    local = {**listener, "name": names.LOCAL_LISTENER, "port": settings.proxy_port}
    return {
        "apiVersion": GATEWAY.api_version,
        "kind": GATEWAY.kind,
        "metadata": {"name": names.GATEWAY, "namespace": settings.namespace},
        "spec": {"gatewayClassName": names.GATEWAY_CLASS, "listeners": [listener, local]},
    }


async def _configure(cluster: Cluster, settings: LocalSettings) -> None:
    (default,) = shipped("config")
    try:
        stored = await cluster.get(CONFIG_MAP, CONFIG_MAP_NAME, settings.namespace)
    except NotFound:
        default["metadata"]["namespace"] = settings.namespace
        stored = await cluster.create(CONFIG_MAP, default)
    data = stored.get("data") or {}
    changes = {
        key: json.dumps(merged, indent=2) + "\n"
        for key, ours, preset in _local_options(settings)
        if (merged := _merge(data.get(key, "{}"), ours, preset)) is not None
    }
    if changes:
        await cluster.patch(
            CONFIG_MAP, CONFIG_MAP_NAME, {"data": changes}, namespace=settings.namespace
        )


def _local_options(
    settings: LocalSettings,
) -> tuple[tuple[str, dict[str, Any], dict[str, Any]], ...]:
    """By key: what follows from the command line, and what is only preset."""
    return (
        (
            "ingress",
            {"externalPort": settings.port, "pathBaseUrl": settings.url},
            {"ingressDomain": settings.domain, "urlScheme": "http"},
        ),
        ("storageInitializer", {}, {"localPaths": "inPlace"}),
        # The node ends a pod only after the gateway has let go of it.
        ("deploy", {}, {"preStopSleepSeconds": 0}),
    )


def _merge(text: str, ours: dict[str, Any], preset: dict[str, Any]) -> dict[str, Any] | None:
    """The document with our options in it; None when nothing changes or it is not a document."""
    try:
        before = json.loads(text)
    except ValueError:
        return None  # Services say what is wrong with it; it is the person's to mend.
    if not isinstance(before, dict):
        return None
    after = {**preset, **before, **ours}
    return after if after != before else None
