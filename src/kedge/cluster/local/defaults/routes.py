"""Defaults that Gateway API's own CustomResourceDefinition gives to an HTTPRoute."""

from __future__ import annotations

from typing import Any

from kedge.api.scheme import GATEWAY_GROUP
from kedge.cluster.base import Object


def default_http_route(route: Object) -> None:
    spec = route.get("spec")
    if not isinstance(spec, dict):
        return
    for parent in _objects(spec.get("parentRefs")):
        parent.setdefault("group", GATEWAY_GROUP)
        parent.setdefault("kind", "Gateway")
    rules = spec.setdefault("rules", [{}])
    for rule in _objects(rules):
        _default_matches(rule)
        for backend in _objects(rule.get("backendRefs")):
            _default_backend(backend)
            backend.setdefault("weight", 1)
        for entry in _objects(rule.get("filters")):
            mirror = entry.get("requestMirror")
            if isinstance(mirror, dict) and isinstance(mirror.get("backendRef"), dict):
                _default_backend(mirror["backendRef"])


def _default_matches(rule: dict[str, Any]) -> None:
    for match in _objects(rule.setdefault("matches", [{}])):
        path = match.setdefault("path", {})
        if isinstance(path, dict):
            path.setdefault("type", "PathPrefix")
            path.setdefault("value", "/")
        for name in ("headers", "queryParams"):
            for entry in _objects(match.get(name)):
                entry.setdefault("type", "Exact")


def _default_backend(backend: dict[str, Any]) -> None:
    backend.setdefault("group", "")
    backend.setdefault("kind", "Service")


def _objects(items: Any) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
