"""What a cluster is and has, before anything is changed in it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kedge.api.scheme import DEPLOYMENT, NAMESPACE, NODE, Kind
from kedge.cluster.base import Object
from kedge.cluster.errors import ApiError, Forbidden, NotFound
from kedge.install import names
from kedge.install.kinds import (
    ACCESS_REVIEW,
    CLUSTER_ROLE,
    CUSTOM_RESOURCE_DEFINITION,
    STORAGE_CLASS,
    kind_of,
)
from kedge.install.target import InstallError, Target

OLDEST = (1, 25)
"""The first Kubernetes whose API has all that is installed."""
_KSERVE = "control-plane=kserve-controller-manager"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_GPU = "nvidia.com/gpu"


class Owner(StrEnum):
    """Whose something is."""

    NOBODY = "absent"
    KEDGE = "installed by Kedge"
    OTHER = "installed by another"


@dataclass(frozen=True)
class Facts:
    """A cluster, as far as an installation is concerned.

    Attributes:
        version: of the API server.
        gateway_api: whose Gateway API's definitions are.
        serving: whose the definitions of `serving.kserve.io` are.
        namespace: the phase of the namespace of the installation; empty when it is absent.
        namespace_is_ours: it was made by an installation.
        installed_in: the namespace of the Kedge that is installed; empty for none.
        kserve: `namespace/name` of KServe's controller; empty for none.
        storage_class: the default one; empty for none.
        nodes: how many; None when we may not see them.
        gpus: that pods can ask for.
        kubeflow: Kubeflow's profiles are installed.
    """

    version: str
    gateway_api: Owner
    serving: Owner
    namespace: str
    namespace_is_ours: bool
    installed_in: str
    kserve: str
    storage_class: str
    nodes: int | None
    gpus: int
    kubeflow: bool

    def lines(self) -> list[str]:
        """For people."""
        nodes = "not ours to see" if self.nodes is None else str(self.nodes)
        return [
            f"Kubernetes {self.version}, nodes: {nodes}, GPUs: {self.gpus},"
            f" default storage class: {self.storage_class or 'none'}",
            f"Gateway API: {self.gateway_api}; serving.kserve.io: {self.serving};"
            f" Kedge: {f'in namespace {self.installed_in}' if self.installed_in else 'absent'}",
        ]


async def probe(cluster: Target, namespace: str) -> Facts:
    """Look; whatever we may not see counts as not there."""
    version = str((await cluster.read("/version")).get("gitVersion", ""))
    here = await _find(cluster, NAMESPACE, namespace)
    role = await _find(cluster, CLUSTER_ROLE, names.CONTROLLER)
    nodes = await _list(cluster, NODE)
    return Facts(
        version=version,
        gateway_api=await _owner(cluster, "httproutes.gateway.networking.k8s.io"),
        serving=await _owner(cluster, "inferenceservices.serving.kserve.io"),
        namespace=str((here or {}).get("status", {}).get("phase") or "Active") if here else "",
        namespace_is_ours=names.MADE_NAMESPACE in _annotations(here),
        installed_in=_labels(role).get(names.INSTALLATION, ""),
        kserve=await _find_kserve(cluster),
        storage_class=await _default_class(cluster),
        nodes=None if nodes is None else len(nodes),
        gpus=sum(_gpus(node) for node in nodes or ()),
        kubeflow=await _find(
            cluster, CUSTOM_RESOURCE_DEFINITION, "profiles.kubeflow.org"
        ) is not None,
    )  # fmt: skip


def check(facts: Facts, namespace: str) -> None:
    """Raise what speaks against an installation."""
    found = re.match(r"v?(\d+)\.(\d+)", facts.version)
    if "kedge" in facts.version:
        raise InstallError(
            "This is the API of a `kedge up`, which has all of Kedge already.",
            fix="Give the kubeconfig of a Kubernetes cluster by --kubeconfig.",
        )
    # A build without a version calls itself 0.0.
    if found and (0, 0) < (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise InstallError(
            f"The API server is Kubernetes {facts.version}; Kedge needs {oldest} or newer.",
            fix="Upgrade the cluster.",
        )
    if facts.installed_in and facts.installed_in != namespace:
        raise InstallError(
            f"Kedge is installed in namespace {facts.installed_in}; two would undo each other's"
            " work.",
            fix=f"kedge install --namespace {facts.installed_in}, or kedge uninstall first.",
        )
    if facts.kserve:
        raise InstallError(
            f"KServe's controller runs here ({facts.kserve}); both would reconcile the same"
            " services.",
            fix="kedge migrate shows how its services become Kedge's, and does it with --apply.",
        )


async def check_rights(cluster: Target, objects: Iterable[Object], verbs: Iterable[str]) -> None:
    """Raise, naming verb and resource, what we may not do with the objects' kinds."""
    if await _may(cluster, "*", "*", "*", ""):
        return
    asked = sorted(
        {(verb, kind_of(obj), obj["metadata"].get("namespace", "")) for obj in objects
         for verb in verbs},
        key=lambda one: (str(one[1]), one[0]),
    )  # fmt: skip
    answers = await asyncio.gather(
        *(_may(cluster, verb, kind.group, kind.plural, space) for verb, kind, space in asked)
    )
    missing = [
        f"{verb} {kind}{f' in namespace {space}' if space else ''}"
        for (verb, kind, space), allowed in zip(asked, answers, strict=True)
        if not allowed
    ]
    if missing:
        raise InstallError(
            f"You may not {'; '.join(missing)}.",
            fix="Run this as a cluster administrator, or have these rights granted to you.",
        )


async def _may(cluster: Target, verb: str, group: str, resource: str, namespace: str) -> bool:
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
    review = await cluster.create(
        ACCESS_REVIEW,
        {
            "apiVersion": ACCESS_REVIEW.api_version,
            "kind": ACCESS_REVIEW.kind,
            "metadata": {},
            "spec": {"resourceAttributes": attributes},
        },
    )
    return bool((review.get("status") or {}).get("allowed"))


async def find_crd(cluster: Target, name: str) -> Object | None:
    return await _find(cluster, CUSTOM_RESOURCE_DEFINITION, name)


def is_ours(obj: Object | None) -> bool:
    """Whether an installation of Kedge made it."""
    return names.INSTALLATION in _labels(obj)


async def _owner(cluster: Target, definition: str) -> Owner:
    found = await find_crd(cluster, definition)
    if found is None:
        return Owner.NOBODY
    return Owner.KEDGE if is_ours(found) else Owner.OTHER


async def _find_kserve(cluster: Target) -> str:
    try:
        found = await cluster.list(DEPLOYMENT, labels=_KSERVE)
    except Forbidden:
        return ""
    for obj in found.items:
        if (obj["spec"].get("replicas", 1)) > 0:
            return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
    return ""


async def _default_class(cluster: Target) -> str:
    for obj in await _list(cluster, STORAGE_CLASS) or ():
        if _annotations(obj).get(_DEFAULT_CLASS) == "true":
            return str(obj["metadata"]["name"])
    return ""


async def _find(cluster: Target, kind: Kind, name: str) -> Object | None:
    try:
        return await cluster.get(kind, name)
    except (NotFound, Forbidden):
        return None


async def _list(cluster: Target, kind: Kind) -> list[Object] | None:
    try:
        return (await cluster.list(kind)).items
    except ApiError as error:
        if isinstance(error, Forbidden | NotFound):
            return None
        raise


def _gpus(node: Object) -> int:
    offered: dict[str, Any] = node.get("status", {}).get("allocatable") or {}
    return int(offered.get(_GPU) or 0)


def _labels(obj: Object | None) -> dict[str, str]:
    return (obj or {}).get("metadata", {}).get("labels") or {}


def _annotations(obj: Object | None) -> dict[str, str]:
    return (obj or {}).get("metadata", {}).get("annotations") or {}
