"""Defaults of the kinds that need only a line or two."""

from __future__ import annotations

import base64

from kedge.cluster.base import Object


def default_config_map(config_map: Object) -> None:
    for field in ("data", "binaryData"):
        if config_map.get(field) is None:
            config_map.pop(field, None)


def default_event(event: Object) -> None:
    event.setdefault("source", {})
    event.setdefault("reportingComponent", event["source"].get("component", ""))
    event.setdefault("reportingInstance", event["source"].get("host", ""))


def default_namespace(namespace: Object) -> None:
    metadata = namespace["metadata"]
    labels = metadata.get("labels") or {}
    metadata["labels"] = {**labels, "kubernetes.io/metadata.name": metadata.get("name", "")}
    if "deletionTimestamp" not in metadata:
        spec = namespace.setdefault("spec", {})
        spec.setdefault("finalizers", ["kubernetes"])
    namespace.setdefault("status", {}).setdefault("phase", "Active")


def default_secret(secret: Object) -> None:
    if not secret.get("type"):
        secret["type"] = "Opaque"
    given = secret.pop("stringData", None)
    if isinstance(given, dict):
        encoded = {
            key: base64.b64encode(str(text).encode()).decode() for key, text in given.items()
        }
        secret["data"] = {**(secret.get("data") or {}), **encoded}


def default_volume_claim(claim: Object) -> None:
    spec = claim.get("spec")
    if isinstance(spec, dict):
        spec.setdefault("volumeMode", "Filesystem")
    claim.setdefault("status", {}).setdefault("phase", "Pending")
