"""What all children have in common: metadata, owner, digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import orjson

from kedge.api.scheme import Kind
from kedge.cluster.base import Object
from kedge.reconcile.owners import controller_reference


def make_object(
    kind: Kind,
    isvc: Object,
    name: str,
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
) -> Object:
    """A child without its spec; owned by the service as soon as that has a uid."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": isvc["metadata"]["namespace"],
        "labels": dict(sorted(labels.items())),
    }
    if annotations:
        metadata["annotations"] = dict(sorted(annotations.items()))
    if isvc["metadata"].get("uid"):
        metadata["ownerReferences"] = [controller_reference(isvc)]
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def digest(value: Any) -> str:
    """A short digest of a JSON value, the same for equal values."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    if not text.isascii() or b"\x7f" in text:
        # What is stored was counted over this form, which differs only there.
        text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(text).hexdigest()[:16]
