"""Collects what a service is built from besides itself: runtimes, and the secrets it needs.

Runtimes and storage containers are watched; service accounts and secrets are asked for one by one
and only by services whose storage needs them, so that Kedge never holds a cluster's secrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    SECRET,
    SERVICE_ACCOUNT,
    SERVING_RUNTIME,
    Kind,
)
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import NotFound
from kedge.controllers.inferenceservice.cache import Cache
from kedge.controllers.inferenceservice.merge import get_env
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.storage import credentials
from kedge.controllers.inferenceservice.storage.sources import Source
from kedge.controllers.inferenceservice.surroundings import Surroundings
from kedge.settings.serving import ServingConfig


async def gather(
    cluster: Cluster,
    cache: Cache,
    isvc: Object,
    config: ServingConfig,
    *,
    cluster_domain: str,
    home: str,
) -> Surroundings:
    """Everything that `isvc`, with its defaults, is built from.

    Args:
        home: the namespace of the configuration.
    """
    namespace = str(isvc["metadata"]["namespace"])
    accounts: dict[str, Object] = {}
    secrets: dict[str, Object] = {}

    async def take(found: dict[str, Object], kind: Kind, name: str) -> Object | None:
        if name not in found:
            try:
                found[name] = await cluster.get(kind, name, namespace)
            except NotFound:
                return None
        return found[name]

    for component in _needing_credentials(isvc, config):
        name = component.get("serviceAccountName") or component.get("serviceAccount") or "default"
        account = await take(accounts, SERVICE_ACCOUNT, str(name))
        for secret in _secret_names(isvc, component, account, config):
            await take(secrets, SECRET, secret)
    return Surroundings(
        namespace=namespace,
        home=home,
        runtimes=cache.list(SERVING_RUNTIME, namespace),
        cluster_runtimes=cache.list(CLUSTER_SERVING_RUNTIME),
        storage_containers=cache.list(CLUSTER_STORAGE_CONTAINER),
        service_accounts=accounts,
        secrets=secrets,
        cluster_domain=cluster_domain,
    )


def _needing_credentials(isvc: Object, config: ServingConfig) -> Iterator[Mapping[str, Any]]:
    """Components whose files an init container has to bring."""
    spec = isvc["spec"]
    canaries = [entry.get("predictor") or {} for entry in spec.get("canary") or ()]
    for component in [*(spec.get(kind.value) for kind in ComponentKind), *canaries]:
        if component and (
            _storage(component) or any(_is_fetched(uri, config) for uri in _uris(component))
        ):
            yield component


def _uris(component: Mapping[str, Any]) -> Iterator[str]:
    for part in (component.get("model") or {}, component.get("art") or {}):
        if part.get("storageUri"):
            yield str(part["storageUri"])
    for container in component.get("containers") or ():
        uri = get_env(container, "STORAGE_URI")
        if uri:
            yield uri
    for entry in component.get("storageUris") or ():
        yield str(entry.get("uri") or "")


def _storage(component: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return (component.get("model") or component.get("art") or {}).get("storage")


def _is_fetched(uri: str, config: ServingConfig) -> bool:
    source = Source(uri)
    in_place = source.local_path is not None and config.storage_initializer.local_paths == "inPlace"
    return not (source.is_pvc or in_place)


def _secret_names(
    isvc: Object,
    component: Mapping[str, Any],
    account: Object | None,
    config: ServingConfig,
) -> Iterator[str]:
    annotations = {
        **(isvc["metadata"].get("annotations") or {}),
        **(component.get("annotations") or {}),
    }
    key = config.credentials.storage_secret_name_annotation
    if key and annotations.get(key):
        yield str(annotations[key])
    for listed in (account or {}).get("secrets") or ():
        yield str(listed["name"])
    if _storage(component):
        yield credentials.secret_name(annotations, config.credentials)
