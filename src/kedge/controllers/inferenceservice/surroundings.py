"""What a service is built from besides itself and the settings.

Builders get it whole and never ask a cluster, so the same code builds offline.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kedge.cluster.base import Object
from kedge.settings.serving import DEFAULT_NAMESPACE

DEFAULT_CLUSTER_DOMAIN = "cluster.local"


@dataclass(frozen=True)
class Surroundings:
    """The objects around one InferenceService, as last seen.

    Attributes:
        namespace: its namespace.
        home: the namespace of the configuration.
        runtimes: ServingRuntimes of its namespace.
        cluster_runtimes: all ClusterServingRuntimes.
        storage_containers: all ClusterStorageContainers.
        service_accounts: of its namespace, by name; those it uses.
        secrets: of its namespace, by name; those it may need.
        cluster_domain: the domain of in-cluster names.
    """

    namespace: str = ""
    home: str = DEFAULT_NAMESPACE
    runtimes: Sequence[Object] = ()
    cluster_runtimes: Sequence[Object] = ()
    storage_containers: Sequence[Object] = ()
    service_accounts: Mapping[str, Object] = field(default_factory=dict)
    secrets: Mapping[str, Object] = field(default_factory=dict)
    cluster_domain: str = DEFAULT_CLUSTER_DOMAIN


def secret_keys(secret: Object) -> set[str]:
    return {*(secret.get("data") or {}), *(secret.get("stringData") or {})}


def secret_text(secret: Object, key: str) -> str:
    """The value of a key; empty when it is absent or no text."""
    plain = (secret.get("stringData") or {}).get(key)
    if plain is not None:
        return str(plain)
    encoded = (secret.get("data") or {}).get(key)
    if not encoded:
        return ""
    try:
        return base64.b64decode(encoded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
